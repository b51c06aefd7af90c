"""Facts of x86 devices for the tests of targets and profiles."""

from __future__ import annotations

from typing import Any

from edgeopt.core.device import DeviceFacts, RuntimeFacts

AVX2 = ("avx", "avx2", "f16c", "fma", "sse4_1", "sse4_2", "ssse3")


def x86_facts(isa: tuple[str, ...] = AVX2, *, onnxruntime: str | None = "1.32.0", **changes: Any) -> DeviceFacts:
    """A two-core x86 computer."""
    fields: dict[str, Any] = {
        "model": "box",
        "machine": "x86_64",
        "bits": 64,
        "cpu": "AMD EPYC",
        "isa": isa,
        "cores_logical": 4,
        "cores_physical": 2,
        "memory_bytes": 8 << 30,
        "memory_available_bytes": 6 << 30,
        "disk_free_bytes": 10 << 30,
        "os": "Debian GNU/Linux 12",
        "kernel": "6.1",
        "libc": "glibc 2.36",
        "python": "3.11.2",
        "governor": "",
        "power_mode": "",
        "temperature_celsius": None,
        "boot_id": "b",
        "runtimes": (RuntimeFacts("onnxruntime", onnxruntime),) if onnxruntime else (),
        "fingerprint": "f",
    }
    return DeviceFacts(**(fields | changes))
