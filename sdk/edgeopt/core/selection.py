"""The decision: the winner, the Pareto front, and why each other candidate lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeopt.core.budget import Budget
from edgeopt.core.measurement import Accuracy, Measurement
from edgeopt.core.profile import Settings
from edgeopt.core.variant import Variant


@dataclass(frozen=True)
class Candidate:
    """A variant with the settings it ran under, and every launch that measured it on one device.

    Attributes:
        variant, settings: What ran, and how.
        measurements: Its launches.
        reference: Accuracy of the original on the host over the same samples, where no runtime of the device reads the
            original; what the variant loses is then measured against this.
    """

    variant: Variant
    settings: Settings
    measurements: tuple[Measurement, ...]
    reference: Accuracy | None = None

    @property
    def key(self) -> str:
        """Unique name within a run: variant and settings."""
        return f"{self.variant.name} / {self.settings}"


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95 % confidence interval; `low` and `high` equal `value` where none can be had."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Assessment:
    """A candidate judged: its figures with their intervals, and what became of it.

    Attributes:
        candidate: What was judged.
        feasible: Whether it meets the budget at the pessimistic end of every interval.
        latency_ns: Median latency.
        limited_latency_ns: The statistic that the budget limits; ``None`` where it limits none.
        memory_bytes: Largest peak over the launches.
        size_bytes: The file.
        metric: Metric on the device, or ``None``.
        drop: Loss against the baseline on the same samples (positive is worse), or ``None``.
        speedup: Baseline's latency over this one's; the baseline is the original at its own best settings.
        pareto: Whether no other feasible candidate is at least as good in latency, drop, memory and size.
        verdict: ``winner``, ``tie``, ``slower``, ``infeasible``, ``failed``, ``dominated``.
        reason: One sentence: why it won or lost.
    """

    candidate: Candidate
    feasible: bool
    latency_ns: Interval | None
    limited_latency_ns: Interval | None
    memory_bytes: int | None
    size_bytes: int
    metric: float | None
    drop: Interval | None
    speedup: Interval | None
    pareto: bool
    verdict: Literal["winner", "tie", "slower", "infeasible", "failed", "dominated"]
    reason: str


@dataclass(frozen=True)
class Selection:
    """The outcome of a run on one device.

    Attributes:
        winner: Key of the winner, or ``None`` when nothing meets the budget.
        best_so_far: Key of the nearest miss (or the winner): what is on disk in any case.
        assessments: Every candidate, best first.
        budget: What was asked.
        noise: Relative noise of the device (A/A ratio); differences below it are ties.
        misses: For an infeasible outcome: by how much each of the closest candidates missed, by key.
    """

    winner: str | None
    best_so_far: str | None
    assessments: tuple[Assessment, ...]
    budget: Budget
    noise: float
    misses: Mapping[str, str] = field(default_factory=dict)

    def assessment(self, key: str) -> Assessment:
        """The assessment of candidate `key`.

        Raises:
            KeyError: No candidate has that key.
        """
        for assessment in self.assessments:
            if assessment.candidate.key == key:
                return assessment
        raise KeyError(key)
