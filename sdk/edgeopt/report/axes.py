"""Scales of the picture: range, ticks at 1-2-5 steps, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOG_FROM = 6.0
"""A ratio of largest to smallest value from which a logarithmic axis reads better."""


@dataclass(frozen=True)
class Axis:
    """A range with ticks.

    Attributes:
        low, high: Ends of the range, in the units of the values.
        log: Whether distances stand for ratios.
        ticks: Values to label, ascending, inside the range.
    """

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where `value` lies between `low` (0.0) and `high` (1.0), clamped to the range."""
        value = min(self.high, max(self.low, value))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis_for(values: Sequence[float], *, may_log: bool = False, padding: float = 0.08) -> Axis:
    """The axis that holds `values` with room at both ends.

    Args:
        values: At least one finite number; positive where `may_log`.
        may_log: Whether a logarithmic axis may be used when the spread asks for it.
        padding: Room at each end, as a share of the range.
    """
    low, high = min(values), max(values)
    if may_log and low > 0 and high / low > LOG_FROM:
        room = (high / low) ** padding
        return Axis(low / room, high * room, True, _log_ticks(low / room, high * room))
    room = (high - low) * padding or abs(high) * 0.05 or 1.0
    low, high = (max(0.0, low - room) if low >= 0 else low - room), high + room
    return Axis(low, high, False, linear_ticks(low, high))


def linear_ticks(low: float, high: float, count: int = 6) -> tuple[float, ...]:
    """About `count` round values from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)
    first, last = math.ceil(low / step), math.floor(high / step)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 3, 4, 6, 8) if high / low < 20 else (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    return tuple(round(tick, 12) for tick in ticks if low <= tick <= high)
