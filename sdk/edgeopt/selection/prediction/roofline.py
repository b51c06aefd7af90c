"""What a task takes at least, and about, by counting alone.

Williams, Waterman, Patterson: Roofline: An Insightful Visual Performance Model for Multicore Architectures, 2009: time
is bounded from below by the products over the peak of the cores and by the bytes over the bandwidth of the memory. The
bound has to hold for every runtime, so that peaks are the best cores of their kind, products are those that fast
algorithms leave (Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2016), and what is not known is free.
"""

from __future__ import annotations

import math

from edgeopt.core.work import Machine, Task, Work

_FASTEST_KHZ = 6_000_000
"""Of a CPU that does not say its clock."""

_CACHED_BYTES = 16 << 20
"""Weights that may stay in the caches of boards whose bandwidth is known; only the rest comes from memory each time."""

_SPARED = 36 * 9 / 64
"""Factor by which Winograd's F(6x6, 3x3) needs fewer products."""

_UNKNOWN = (1e9, 1e9)
_Kinds = tuple[tuple[set[str], tuple[float, float]], ...]
_X86: _Kinds = (
    ({"amx_int8", "amx_bf16", "amx_tile"}, (512, 1024)),
    ({"avx512_bf16", "avx512_fp16"}, (64, 128)),
    ({"avx512_vnni", "avx512f", "avx512bw"}, (32, 128)),
    ({"avx_vnni"}, (16, 128)),
    ({"avx2", "fma"}, (16, 64)),
    (set(), (8, 32)),
)
_ARM: _Kinds = (
    ({"sme", "sme2"}, (1024, 4096)),
    ({"sve", "sve2", "i8mm", "bf16"}, (64, 128)),
    ({"asimddp"}, (32, 64)),
    ({"asimdhp"}, (16, 32)),
    (set(), (8, 32)),
)
"""Flags, and products of a core in a clock where it has one: in floating point of any width, and in 8 bits."""

_NARROWING = frozenset({"MatMulNBits", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Operators by which a runtime may come to compute in 8 bits what the file has in floating point."""

_EFFICIENCY = 0.2
_NODE_NS = 2000.0
_BANDWIDTH = 10.0  # GB/s, where nobody says
_TYPICAL_KHZ = 2_000_000


def peak(machine: Machine) -> tuple[float, float]:
    """Products of one core in a clock, in floating point and in 8 bits; more than any core of the kind reaches."""
    kinds = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM, "armv7l": _ARM, "armv8l": _ARM}
    for flags, found in kinds.get(machine.name.lower(), ()):
        if not flags or flags.intersection(machine.isa):
            return found
    return _UNKNOWN


def least_ns(task: Task) -> float:
    """A latency that the task cannot be below, whatever the runtime; 0 where nothing can be said."""
    work, machine, settings = task.work, task.machine, task.settings
    wide, narrow = peak(machine)
    wide = narrow if _NARROWING.intersection(work.operators) else wide
    clock = (machine.max_khz or _FASTEST_KHZ) * 1e3
    cores = min(machine.cores, settings.busy_threads)
    left = 1 - _spared_share(work) * (1 - 1 / _SPARED)
    on_cores = settings.runtime != "tensorrt" and not settings.provider  # else nothing is known of what computes
    compute = left * (work.macs / wide + work.narrow_macs / narrow) / (clock * cores) if on_cores else 0.0
    moved = max(0, work.streamed_bytes - _CACHED_BYTES)
    memory = moved / (machine.bandwidth_gb_per_second * 1e9) if machine.bandwidth_gb_per_second else 0.0
    return 1e9 * max(compute * settings.batch, memory)


def _spared_share(work: Work) -> float:
    return work.spared_macs / max(1, work.macs + work.narrow_macs)


def about_ns(task: Task) -> float:
    """About what it takes where nothing was ever measured: products, bytes and a price for each operator, added up."""
    work, machine, settings = task.work, task.machine, task.settings
    wide, narrow = peak(machine)
    if (wide, narrow) == _UNKNOWN:
        wide, narrow = _X86[-1][1]
    clock = (machine.max_khz or _TYPICAL_KHZ) * 1e3
    speed = clock * math.pow(min(machine.cores, max(1, settings.threads)), 0.8) * _EFFICIENCY
    compute = (work.macs / wide + work.narrow_macs / narrow) / speed
    moved = (work.streamed_bytes + 2 * work.activation_bytes) / ((machine.bandwidth_gb_per_second or _BANDWIDTH) * 1e9)
    return settings.batch * 1e9 * (compute + moved) + _NODE_NS * sum(work.operators.values())
