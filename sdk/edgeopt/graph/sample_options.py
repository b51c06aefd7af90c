"""How samples are taken, prepared and split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeopt.errors import UsageError

Layout = Literal["as_is", "hwc", "chw"]


@dataclass(frozen=True)
class SampleOptions:
    """What the user may say about the data.

    Attributes:
        calibration: Most calibration samples (feeds).
        evaluation: Most evaluation samples (feeds).
        golden: How many evaluation samples serve as golden samples on the device.
        seed: Of the split and of generated inputs.
        overlap: One set serves for both calibration and evaluation.
        layout: How images lie in the data where the model wants the other way, ``hwc`` or ``chw``; inputs of rank 4.
        scale: Every real input is multiplied by it; also what allows integers for a real input. ``None``: not asked.
        metric: ``top1``, ``fidelity``, ``file.py:function``; ``None``: top1 with labels, else fidelity.
        deadline_seconds: For reading the data, and again for the reference outputs.

    Raises:
        UsageError: A value out of its range.
    """

    calibration: int = 128
    evaluation: int = 1000
    golden: int = 4
    seed: int = 0
    overlap: bool = False
    layout: Layout = "as_is"
    scale: float | None = None
    metric: str | None = None
    deadline_seconds: float = 600

    def __post_init__(self) -> None:
        for name in ("calibration", "evaluation", "golden"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is {getattr(self, name)}.", remedy="Give 1 sample or more.")
        if self.layout not in ("as_is", "hwc", "chw"):
            raise UsageError(f"--layout is {self.layout!r}.", remedy="Say hwc or chw.")
        if self.scale is not None and (not math.isfinite(self.scale) or self.scale == 0):
            raise UsageError(f"--scale is {self.scale:g}.", remedy="Give a finite number that is not 0, such as 1/255.")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}.", remedy="Give 0 or more.")


def parse_scale(text: str) -> float:
    """A number or a fraction: ``0.5``, ``1/255``.

    Raises:
        UsageError: It is neither.
    """
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--scale is {text!r}.", remedy="Give a number or a fraction, such as 1/255.") from None
