"""x86 computers.

What decides there is whether the CPU has VNNI. With it, uint8 × int8 accumulates in 32 bits. Without it, pairs of
products are added in 16 bits with saturation, so weights get 7 bits (`reduce_range`). On a Zen 3 (AVX2), one thread,
against float in ONNX Runtime 1.32: uint8 × int8 with 7-bit weights 1.7× (ResNet-18) and 1.5× (MobileNetV2), uint8 ×
uint8 1.2× and 1.0×, int8 activations 1.0×. Hence uint8 × int8 with 7-bit weights is the default, and int8 activations
are refused.
"""

from __future__ import annotations

from typing import ClassVar

from edgeopt_targets.board import Board
from edgeopt_targets.rules import x86
from edgeopt_targets.rules._base import RuntimeRule


class X86(Board):
    """The target of the ``x86-*`` profiles."""

    name: ClassVar[str] = "x86"
    runtime_rules: ClassVar[tuple[RuntimeRule, ...]] = (*Board.runtime_rules, *x86.RULES)
