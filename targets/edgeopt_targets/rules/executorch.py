"""Rules on ExecuTorch, whose runtime for Python brings all of torch along."""

from __future__ import annotations

from edgeopt.core.device import RuntimeFacts
from edgeopt_targets.rules._base import Question, RuntimeRule

_NAME = "executorch"
_LEAST_BYTES = 900 << 20
"""Three times what importing it took, less a little: boards of 1 GiB tell some 920 MiB."""


def memory(question: Question, runtime: RuntimeFacts) -> str | None:
    """A board that the runtime alone would fill."""
    has = question.facts.memory_bytes
    if runtime.name != _NAME or not 0 < has < _LEAST_BYTES:
        return None
    return (
        f"ExecuTorch for Python takes 330 MiB of memory before a model is loaded, for torch; the device has "
        f"{has >> 20} MiB (LiteRT runs XNNPACK too)"
    )


RULES = (RuntimeRule("executorch-memory", "executorch 1.5.1 with torch 2.13 on x86-64, November 2026", memory),)
