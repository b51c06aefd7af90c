"""What a board says about itself: hardware, system, limits, runtimes, and the fingerprint that measurements hang on."""

import hashlib
import json
import os
import platform
import struct
from typing import Any, Dict, List

from edgeopt_runner import cpu, jetson, memory, packages, power, raspberry, storage, system, thermal
from edgeopt_runner import runtimes as runtime_search
from edgeopt_runner.board import THIS, Board

_MEMORY_STEP_BYTES = 64 << 20


def probe(root: str, runtimes: bool = True, board: Board = THIS) -> Dict[str, Any]:
    """The fields of `edgeopt.core.device.DeviceFacts`.

    Args:
        root: The runner's folder; need not exist yet.
        runtimes: Whether to look for runtimes, which may take seconds. Without them the fingerprint is empty, for it
            depends on them.
        board: Where the files are read.
    """
    facts = dict(_hardware(board), **_system(board))
    facts.update(_nvidia(board))
    facts.update(
        disk_free_bytes=disk_free_bytes(root),
        temperature_celsius=thermal.temperature(board),
        alarms=raspberry.conditions(raspberry.throttled(board)) + thermal.supply_alarms(board),
        pythons=packages.interpreters(board),
        packages=packages.installed(root, board),
        runtimes=runtime_search.find(root) if runtimes else [],
    )
    return dict(facts, fingerprint=fingerprint(facts) if runtimes else "")


def _hardware(board: Board) -> Dict[str, Any]:
    processor = cpu.parse_cpuinfo(board.read("/proc/cpuinfo"))
    cpus = cpu.allowed_cpus()
    return {
        "model": cpu.board_model(board, processor.board),
        "compatible": board.tree("compatible"),
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "cpu": processor.name,
        "isa": processor.isa,
        "cores_logical": len(cpus),
        "cores_physical": cpu.physical_cores(cpus, board),
        "cores_fast": cpu.fast_cores(cpus, board),
        "max_khz": power.max_kilohertz(board),
        "memory_bytes": memory.installed_bytes(board),
        "memory_available_bytes": memory.available_bytes(board) or 0,
        "swap_bytes": system.swap_bytes(board),
        "page_bytes": system.page_bytes(),
    }


def _system(board: Board) -> Dict[str, Any]:
    release = system.parse_os_release(board.read("/etc/os-release") or board.read("/usr/lib/os-release"))
    return {
        "os": release.get("PRETTY_NAME") or platform.system(),
        "os_id": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "kernel": platform.release(),
        "kernel_bits": system.kernel_bits(platform.machine()),
        "libc": system.libc(board),
        "python": platform.python_version(),
        "governor": power.governor(board),
        "power_mode": power.power_mode(board),
        "boot_id": board.read("/proc/sys/kernel/random/boot_id") or "",
    }


def _nvidia(board: Board) -> Dict[str, Any]:
    installed = jetson.installed(board)
    l4t = jetson.release(installed, board)
    return {
        "l4t": l4t,
        "jetpack": installed.get("nvidia-jetpack") or jetson.jetpack_of(l4t),
        "libraries": jetson.libraries(installed, board),
        "gpus": jetson.gpus(board),
    }


def fingerprint(facts: Dict[str, Any]) -> str:
    """SHA-256 of the facts that a measurement depends on: not of load, free space, temperature or this boot.

    Memory counts in steps of 64 MiB, because a kernel does not always keep the same share for itself.
    """
    names = ("model", "machine", "bits", "cpu", "isa", "cores_logical", "cores_physical", "os", "kernel", "libc")
    kept = {name: facts[name] for name in names + ("governor", "power_mode")}
    kept.update({name: facts[name] for name in ("max_khz", "l4t", "libraries", "gpus") if facts.get(name)})
    kept["memory"] = facts["memory_bytes"] // _MEMORY_STEP_BYTES
    kept["runtimes"] = sorted([runtime["name"], runtime["version"]] for runtime in facts["runtimes"])
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode("utf-8")).hexdigest()


def disk_free_bytes(root: str) -> int:
    """Free space for us where `root` is or will be; 0 where it cannot be told."""
    folder = os.path.abspath(root)
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        return storage.free_bytes(folder)
    except OSError:
        return 0


__all__: List[str] = ["disk_free_bytes", "fingerprint", "probe"]
