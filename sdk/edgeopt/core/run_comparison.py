"""What changed between two runs: circumstances, winners, their figures, and the candidates that both measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeopt.core.selection import Interval

Change = Literal["better", "worse", "same", "unknown"]
"""``same``: no difference that is larger than the noise; ``unknown``: one side does not have the figure."""


@dataclass(frozen=True)
class Difference:
    """A circumstance that is not the same in both runs, as people read it."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class FigureChange:
    """A figure of the chosen candidates.

    Attributes:
        name: ``latency``, ``metric``, ``memory`` or ``size``.
        before, after: Nanoseconds, the metric, bytes; ``None`` where it is not known.
        ratio: After over before; for the metric the gain, after less before. ``None`` where it cannot be said; without
            width where no interval can be had.
        change: Whether that is good.
    """

    name: Literal["latency", "metric", "memory", "size"]
    before: float | None
    after: float | None
    ratio: Interval | None
    change: Change


@dataclass(frozen=True)
class CandidateChange:
    """A candidate that both runs measured.

    Attributes:
        key: Its name in both.
        same_file: Whether it is the very same file.
        before, after: Median latencies in nanoseconds; ``None`` where it did not run.
        ratio: Latency after over before; ``None`` where one is not known.
        change: Whether that is good.
        verdict_before, verdict_after: What became of it.
    """

    key: str
    same_file: bool
    before: float | None
    after: float | None
    ratio: Interval | None
    change: Change
    verdict_before: str
    verdict_after: str


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side.

    Attributes:
        before, after: Their ids.
        metric: Name of the metric of the later run.
        winner_before, winner_after: Keys of what was chosen; ``None`` where nothing met the budget.
        best_before, best_after: Keys of winner or nearest miss; what `figures` are of.
        differences: Circumstances that are not the same.
        cautions: Why figures may not be compared without a second thought, worst first.
        noise: Relative difference of latencies that is none.
        figures: Of the chosen candidates.
        candidates: Measured by both, in the order of the later run.
        gone, added: Keys that only the earlier, or only the later run measured.
    """

    before: str
    after: str
    metric: str
    winner_before: str | None
    winner_after: str | None
    best_before: str | None
    best_after: str | None
    differences: tuple[Difference, ...]
    cautions: tuple[str, ...]
    noise: float
    figures: tuple[FigureChange, ...]
    candidates: tuple[CandidateChange, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
