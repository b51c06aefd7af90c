"""What a board says about itself: hardware, system, limits, runtimes, and the fingerprint that measurements hang on."""

import hashlib
import json
import os
import platform
import struct
from typing import Any, Dict, List, Optional

from edgeopt_runner import cpu, memory, power, storage, thermal
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
    processor = cpu.parse_cpuinfo(board.read("/proc/cpuinfo"))
    cpus = cpu.allowed_cpus()
    facts: Dict[str, Any] = {
        "model": cpu.board_model(board, processor.board),
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "cpu": processor.name,
        "isa": processor.isa,
        "cores_logical": len(cpus),
        "cores_physical": cpu.physical_cores(cpus, board),
        "memory_bytes": memory.installed_bytes(board),
        "memory_available_bytes": memory.available_bytes(board) or 0,
        "disk_free_bytes": disk_free_bytes(root),
        "os": parse_os_release(board.read("/etc/os-release")) or platform.system(),
        "kernel": platform.release(),
        "libc": libc(),
        "python": platform.python_version(),
        "governor": power.governor(board),
        "power_mode": power.power_mode(board),
        "temperature_celsius": thermal.temperature(board),
        "boot_id": board.read("/proc/sys/kernel/random/boot_id") or "",
        "runtimes": runtime_search.find(root) if runtimes else [],
    }
    return dict(facts, fingerprint=fingerprint(facts) if runtimes else "")


def fingerprint(facts: Dict[str, Any]) -> str:
    """SHA-256 of the facts that a measurement depends on: not of load, free space, temperature or this boot.

    Memory counts in steps of 64 MiB, because a kernel does not always keep the same share for itself.
    """
    names = ("model", "machine", "bits", "cpu", "isa", "cores_logical", "cores_physical", "os", "kernel", "libc")
    kept = {name: facts[name] for name in names + ("governor", "power_mode")}
    kept["memory"] = facts["memory_bytes"] // _MEMORY_STEP_BYTES
    kept["runtimes"] = sorted([runtime["name"], runtime["version"]] for runtime in facts["runtimes"])
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode("utf-8")).hexdigest()


def parse_os_release(text: Optional[str]) -> str:
    """PRETTY_NAME of `/etc/os-release`; empty where there is none."""
    for line in (text or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return ""


def libc() -> str:
    """For example ``glibc 2.36``; ``musl`` where that is the C library; empty where neither can be told."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return "musl" if THIS.glob("/lib/ld-musl-*") else ""


def disk_free_bytes(root: str) -> int:
    """Free space for us where `root` is or will be; 0 where it cannot be told."""
    folder = os.path.abspath(root)
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        return storage.free_bytes(folder)
    except OSError:
        return 0


__all__: List[str] = ["disk_free_bytes", "fingerprint", "libc", "parse_os_release", "probe"]
