"""Facts of boards for the tests of targets and profiles."""

from __future__ import annotations

from typing import Any

from edgeopt.core.device import DeviceFacts, RuntimeFacts
from edgeopt.core.profile import Profile
from support.x86 import x86_facts


def board_facts(model: str = "Raspberry Pi 4 Model B Rev 1.4", /, **changes: Any) -> DeviceFacts:
    """A 64-bit ARM board with Bookworm's Python and glibc, four cores and 4 GB; `runtimes` by name and version."""
    runtimes = changes.pop("runtimes", {"onnxruntime": "1.32.0"})
    fields: dict[str, Any] = {
        "model": model,
        "machine": "aarch64",
        "cpu": "Cortex-A72",
        "isa": ("asimd", "fp"),
        "cores_physical": 4,
        "memory_bytes": 4 << 30,
        "runtimes": tuple(RuntimeFacts(name, version) for name, version in runtimes.items()),
    }
    return x86_facts(**(fields | changes))


def facts_for(profile: Profile) -> DeviceFacts:
    """The smallest device that fits a profile, with ONNX Runtime."""
    clue = profile.clues[0] if profile.clues else None
    return board_facts(
        clue.model.replace("*", "") if clue else "box",
        machine=profile.machine[0] if profile.machine else "riscv64",
        bits=profile.bits or 64,
        isa=(*profile.isa_all, *profile.isa_any[:1]),
        compatible=(clue.compatible.replace("*", ""),) if clue and clue.compatible else (),
        l4t=clue.l4t.replace("*", "36.4.3") if clue else "",
    )
