"""Latency distributions made small: a histogram per candidate from its raw samples, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.core.measurement import Measurement
from edgeopt.core.selection import Assessment
from edgeopt.report import quantities as q

BINS = 48


@dataclass(frozen=True)
class Histogram:
    """Latencies of one candidate over all its launches.

    Attributes:
        number: Row in the table of candidates.
        label: The candidate's key.
        low_ms, high_ms: Range of the bins; the last bin also holds everything above.
        heights: [BINS] counts over the largest count.
        median: Where the median lies, 0.0 to 1.0 of the range.
        p90: The same for the p90, or ``None`` where the sample does not support it.
        above: Samples beyond the range.
        samples: How many there are.
        launches: Over how many launches.
        figures: Text of the figures, for people.
        flags: What weakens the measurements.
    """

    number: int
    label: str
    low_ms: float
    high_ms: float
    heights: tuple[float, ...]
    median: float
    p90: float | None
    above: int
    samples: int
    launches: int
    figures: str
    flags: tuple[str, ...]


def histograms(assessments: Sequence[Assessment]) -> tuple[Histogram, ...]:
    """One histogram for each candidate with samples, in the order given."""
    made = (_histogram(number, item) for number, item in enumerate(assessments, 1))
    return tuple(histogram for histogram in made if histogram is not None)


def _histogram(number: int, item: Assessment) -> Histogram | None:
    launches = [launch for launch in item.candidate.measurements if launch.latency and launch.latency.samples_ns]
    values = sorted(float(value) for launch in launches if launch.latency for value in launch.latency.samples_ns)
    if not values:
        return None
    low, high = values[0], _upper(values)
    heights, above = _bins(values, low, high)
    median = values[len(values) // 2]
    p90 = values[int(len(values) * 0.9)] if _supports_p90(launches) else None
    width = high - low
    return Histogram(
        number=number,
        label=item.candidate.key,
        low_ms=low / 1e6,
        high_ms=high / 1e6,
        heights=heights,
        median=(median - low) / width,
        p90=min(1.0, (p90 - low) / width) if p90 is not None else None,
        above=above,
        samples=len(values),
        launches=len(launches),
        figures=_figures(values[0], median, p90, values[-1]),
        flags=tuple(sorted({flag for launch in launches for flag in launch.flags})),
    )


def _upper(values: Sequence[float]) -> float:
    """End of the range: the p98 with a little room, so that a few stragglers do not flatten the rest."""
    p98 = values[min(len(values) - 1, int(len(values) * 0.98))]
    end = min(values[-1], values[0] + (p98 - values[0]) * 1.15)
    return end if end > values[0] else values[0] * 1.01 + 1


def _bins(values: Sequence[float], low: float, high: float) -> tuple[tuple[float, ...], int]:
    counts, above = [0] * BINS, 0
    scale = BINS / (high - low)
    for value in values:
        counts[min(BINS - 1, int((value - low) * scale))] += 1
        above += value > high
    largest = max(counts)
    return tuple(round(count / largest, 3) for count in counts), above


def _supports_p90(launches: Sequence[Measurement]) -> bool:
    return any(launch.latency is not None and launch.latency.p90_ns is not None for launch in launches)


def _figures(low: float, median: float, p90: float | None, high: float) -> str:
    tail = f", p90 {q.milliseconds(p90)}" if p90 is not None else ""
    return f"min {q.milliseconds(low)}, median {q.milliseconds(median)}{tail}, max {q.milliseconds(high)}"
