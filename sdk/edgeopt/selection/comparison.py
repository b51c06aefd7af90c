"""How one candidate compares with another in what the user minimises, and what counts as a tie."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeopt.core.budget import Objective
from edgeopt.core.selection import Interval
from edgeopt.selection.figures import Figures
from edgeopt.selection.pareto import Point
from edgeopt.selection.racing import ENOUGH, FEW, LEAST_DIFFERENCE, Paired, paired, round_values
from edgeopt.selection.wording import mebibytes, milliseconds, times

NEAR = 0.05
"""Beyond this relative difference the best estimate decides, and no tie-break, however uncertain it is."""

_ACCURACY_STEP = 0.001


@dataclass(frozen=True)
class Comparison:
    """The rules of one selection (facts: measurement protocol §5.2).

    Attributes:
        objective: What the winner has least of.
        noise: Relative noise of the device's timing.
    """

    objective: Objective
    noise: float

    @property
    def delta(self) -> float:
        """Relative difference that is no difference: for times at least 1 %, for memory 1 %, for a file none."""
        if self.objective == "size":
            return 0.0
        return LEAST_DIFFERENCE if self.objective == "memory" else max(LEAST_DIFFERENCE, self.noise)

    def ratio(self, one: Figures, other: Figures) -> Interval:
        """The objective of `one` over that of `other`, both of which have been measured.

        Of many launches that took turns it is the ratio by rounds, in which what slowed the board for a while is gone.
        """
        if one.depth == other.depth and (by_round := self._by_round(one, other)):
            return by_round
        if self.objective == "latency" and one.latency and other.latency:
            return one.latency.over(other.latency)
        if self.objective == "time-per-item" and one.item_ns and other.item_ns:
            a, b = one.item_ns, other.item_ns
            return Interval(a.value / b.value, a.low / b.high, a.high / b.low)
        ratio = self.value(one) / max(self.value(other), 1.0)
        return Interval(ratio, ratio, ratio)

    def worse(self, ratio: Interval) -> bool:
        """Whether it is certain that the first needs more than the second."""
        return ratio.low > 1 + self._margin(ratio)

    def better(self, ratio: Interval) -> bool:
        """Whether it is certain that the first needs less than the second."""
        return ratio.high < 1 - self._margin(ratio)

    def near(self, ratio: Interval) -> bool:
        """Whether the first may be preferred for something else: it is not worse for certain, nor by much at best."""
        return not self.worse(ratio) and ratio.value <= 1 + NEAR

    def _margin(self, ratio: Interval) -> float:
        """What is no difference: noise that is in the interval already does not count twice."""
        return LEAST_DIFFERENCE if isinstance(ratio, Paired) else self.delta

    def _by_round(self, one: Figures, other: Figures) -> Paired | None:
        """The ratio by rounds; ``None`` where they are few and settle nothing yet, or time is not the objective."""
        mine, others = (round_values(item.candidate.measurements, self.objective) for item in (one, other))
        ratio, rounds = paired(mine, others)
        certain = rounds >= FEW and (self.worse(ratio) or self.better(ratio))
        return ratio if certain or rounds >= ENOUGH else None

    def value(self, item: Figures) -> float:
        """What is minimised; infinite where it was not measured."""
        return {
            "latency": item.latency_ns,
            "memory": memory(item),
            "size": float(item.size_bytes),
            "time-per-item": _item_ns(item),
        }[self.objective]

    def tie_break(self, item: Figures) -> tuple[tuple[str, float], ...]:
        """What decides among equals, first to last, each with the words for having less of it.

        Accuracy (in steps of a tenth of a point, since less is rounding), then memory (in steps of 2 %, since less is
        page noise), then size; where memory or size is the
        objective the faster one comes before them.
        """
        accurate, unstable = (
            ("more accurate", _points_step(drop(item))),
            ("measured more steadily", float(not item.stable)),
        )
        small, faster = ("smaller", float(item.size_bytes)), ("faster", item.latency_ns)
        frugal = ("less hungry for memory", _step(memory(item)))
        if self.objective == "latency":
            return accurate, frugal, small, unstable, faster
        return accurate, unstable, faster, frugal, small

    def loss(self, ratio: Interval, one: Figures, other: Figures) -> str:
        """Why `one` is worse than `other`, in words and numbers."""
        what = {
            "latency": "slower than",
            "memory": "more memory than",
            "size": "larger than",
            "time-per-item": "more time per item than",
        }[self.objective]
        mine, others = self.told(self.value(one)), self.told(self.value(other))
        return f"{times(ratio.value)} {what} {other.key} ({mine} against {others})"

    def told(self, value: float) -> str:
        """A value of the objective, for people."""
        return mebibytes(value) if self.objective in ("memory", "size") else milliseconds(value)

    def point(self, item: Figures) -> Point:
        """Latency, drop, memory, size, and whether the timing is unstable: an unsteady number displaces no steady one.

        Time per item counts only where it is the objective: it hardly differs from latency while there is one session.
        """
        known = item.latency_ns, drop(item), memory(item), float(item.size_bytes), float(not item.stable)
        return (*known, _item_ns(item)) if self.objective == "time-per-item" else known


def _item_ns(item: Figures) -> float:
    """Time per item; infinite where it was not measured."""
    return item.item_ns.value if item.item_ns else math.inf


def drop(item: Figures) -> float:
    """Loss of the metric; infinite where it was not measured."""
    return item.drop.value if item.drop else math.inf


def memory(item: Figures) -> float:
    """Peak memory; infinite where it was not measured."""
    return math.inf if item.memory_bytes is None else float(item.memory_bytes)


def _step(value: float) -> float:
    """The number of 2 % steps up to a value, so that differences below one decide nothing."""
    return value if math.isinf(value) or value <= 0 else float(round(math.log(value) / math.log(1.02)))


def _points_step(value: float) -> float:
    """The number of tenths of a point up to a loss."""
    return float(round(value / _ACCURACY_STEP)) if math.isfinite(value) else value
