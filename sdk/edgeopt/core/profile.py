"""A class of hardware: what it can run, its limits, and the recipes to try there in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from edgeopt.core.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """How a runtime runs a variant; the choice ranges over these too.

    Attributes:
        runtime: Engine name.
        threads: Intra-op threads.
        graph_optimisation: ``disabled``, ``basic``, ``extended`` or ``all``.
        spinning: Whether idle worker threads spin (best for back-to-back load, worst for a shared board).
        inter_op: Inter-op threads; above 1 independent branches of the graph run at once.
        sessions: Copies of the model that serve at once, each with its own threads: several requests are answered at a
            time, and one of several samples is split over them.
        batch: Samples in one request, whose outputs come back in their order.
        precision: What the runtime computes a float network in, where it can be told: ``float32``, ``bfloat16``,
            ``float16`` (TensorRT also ``tf32``); empty: float32.
        provider: Where the runtime runs it: one of the providers that the probe found, a delegate's library
            (``libedgetpu.so.1``) or ``dla0``; empty: the runtime's own way, on the CPU but for TensorRT.
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    graph_optimisation: str = "all"
    spinning: bool = True
    inter_op: int = 1
    sessions: int = 1
    batch: int = 1
    precision: str = ""
    provider: str = ""

    @property
    def busy_threads(self) -> int:
        """Threads that compute at once when every session is busy."""
        return self.sessions * max(self.threads, self.inter_op)

    def document(self) -> dict[str, str | int | bool]:
        """Fields by name, as jobs and keys have them.

        Those that came later (`LATER`) are left out at their defaults, so that keys stay what they were and a runner
        that does not know them is asked for nothing new.
        """
        fields = asdict(self)
        return {name: value for name, value in fields.items() if name not in LATER or value != LATER[name]}

    def __str__(self) -> str:
        """Short name, different for different settings: what is not the default is named."""
        parts = [f"{self.threads} thread{'s' if self.threads != 1 else ''}"]
        parts += [f"{self.inter_op} inter-op"] * (self.inter_op != 1)
        parts += [f"{self.sessions} sessions"] * (self.sessions != 1) + [f"batch {self.batch}"] * (self.batch != 1)
        parts += [part for part in (self.precision, self.provider) if part]
        parts += [self.graph_optimisation] * (self.graph_optimisation != "all")
        parts += ["no spinning"] * (not self.spinning) + [self.runtime] * (self.runtime != "onnxruntime")
        return " ".join(parts)


LATER = {"inter_op": 1, "sessions": 1, "batch": 1, "precision": "", "provider": ""}
"""Settings that jobs and keys name only where they differ from this."""


@dataclass(frozen=True)
class Clue:
    """One way to know a board; everything that is given here must fit.

    Attributes:
        model: Shell pattern of the device tree's or DMI's name, for example ``Raspberry Pi 4 Model B*``.
        compatible: Shell pattern of one of the device tree's ``compatible`` names, for example ``nvidia,p3701-*``.
        l4t: Shell pattern of NVIDIA's release of Linux, for example ``36.*``.
        memory_gib: Least (included) and largest (excluded) memory in GiB as the kernel reports it, which is a little
            less than what is soldered. For a clue that leaves several boards open, such as the name of a SoC.
    """

    model: str = ""
    compatible: str = ""
    l4t: str = ""
    memory_gib: tuple[float, float] | None = None


@dataclass(frozen=True)
class Hardware:
    """What is inside, by the data sheet or by somebody's measurement; empty or 0 where nobody says.

    Attributes:
        soc: System on chip, or the CPU families of a class.
        cpu: Kind and number of cores.
        isa: Flags of ``/proc/cpuinfo`` that its CPUs have and that matter to inference.
        memory_gib: Sizes that it is sold with.
        bandwidth_gb_per_second: Peak of the memory, by its data sheet.
        memcpy_mb_per_second: Copying by one thread, as measured.
        gpu: Graphics processor that can run networks.
        compute_capability: Of an NVIDIA GPU, for example ``8.7``.
        gpu_precisions: Precisions that the GPU computes in faster than, or as fast as, float32.
        dla_cores: NVIDIA's deep-learning accelerators.
    """

    soc: str = ""
    cpu: str = ""
    isa: tuple[str, ...] = ()
    memory_gib: tuple[float, ...] = ()
    bandwidth_gb_per_second: float = 0.0
    memcpy_mb_per_second: float = 0.0
    gpu: str = ""
    compute_capability: str = ""
    gpu_precisions: tuple[str, ...] = ()
    dla_cores: int = 0


@dataclass(frozen=True)
class Limits:
    """What must not be exceeded.

    Attributes:
        throttle_celsius: From this temperature on the board lowers its clocks; ``None``: not known.
        page_bytes: Sizes of a memory page that its kernels come with.
        build_seconds: Longest time for building an engine on the device.
    """

    throttle_celsius: float | None = None
    page_bytes: tuple[int, ...] = (4096,)
    build_seconds: float = 1200.0


@dataclass(frozen=True)
class Profile:
    """A hardware profile (`profiles/*.yaml`).

    Attributes:
        name: For example ``x86-avx2``.
        target: Entry-point name of the target that serves it (``x86``).
        description: One line.
        machine: ``uname -m`` it applies to; empty: any.
        bits: Pointer size of the userland that it is for, 32 or 64; 0: any.
        clues: Ways to know the board, of which one must fit; empty: machine, bits and flags are enough.
        isa_all: Flags that a device must have to match.
        isa_any: Flags of which it must have at least one; empty: none is asked.
        isa_none: Flags that it must not have.
        generic: Whether it serves boards that no other profile knows, whose users are told so.
        runtimes: Engines that may run there, best guess first; the first that can be installed is what is provisioned.
        precisions: Precisions worth trying.
        recipes: What to try, in order; the original is always tried and never listed.
        threads: Thread counts to try: numbers, or ``physical`` / ``logical``.
        graph_optimisation: Levels to try on finalists.
        sessions: Numbers of sessions to try, with each thread count that leaves every one its CPUs.
        inter_op: Inter-op threads to try on finalists.
        max_start_celsius: A measurement waits for this temperature.
        hardware: What is inside.
        limits: What must not be exceeded.
        sources: Where each fact comes from, by the name of its field (``precisions``, ``hardware.gpu``).
    """

    name: str
    target: str
    description: str
    machine: tuple[str, ...] = ()
    bits: int = 0
    clues: tuple[Clue, ...] = ()
    isa_all: tuple[str, ...] = ()
    isa_any: tuple[str, ...] = ()
    isa_none: tuple[str, ...] = ()
    generic: bool = False
    runtimes: tuple[str, ...] = ("onnxruntime",)
    precisions: tuple[str, ...] = ("float32",)
    recipes: tuple[Recipe, ...] = ()
    threads: tuple[int | str, ...] = (1, "physical")
    graph_optimisation: tuple[str, ...] = ("all",)
    sessions: tuple[int, ...] = (1,)
    inter_op: tuple[int, ...] = (1,)
    max_start_celsius: float = 70.0
    hardware: Hardware = field(default_factory=Hardware)
    limits: Limits = field(default_factory=Limits)
    sources: Mapping[str, str] = field(default_factory=dict)
