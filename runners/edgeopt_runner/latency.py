"""Statistics of durations and the stopping rules of the measured phase: pure functions of the samples.

Order statistics only where the sample supports them; no sample is ever deleted (facts: measurement protocol §5.2).
"""

import math
from typing import Any, Dict, List, Sequence

PERCENTILES = (("p90_ns", 90, 64), ("p95_ns", 95, 130), ("p99_ns", 99, 662))
"""Field, percentile, and the smallest sample that supports it with 95 % confidence and 5 % margin."""

MEDIAN_TOLERANCE = 0.05
P90_TOLERANCE = 0.10
STABLE_WINDOWS = 3
MAX_WINDOWS = 10
OUTLIER_FACTOR = 3.0
FAST_NS = 500000
BATCH_NS = 100000
MAX_SAMPLES = 20000
_NS = 1e9
_MINUTE_NS = 60 * 10**9


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones.

    Raises:
        ValueError: No values.
    """
    if not values:
        raise ValueError("median of no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[int], percent: float) -> int:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank, never interpolated).

    Raises:
        ValueError: No values.
    """
    if not values:
        raise ValueError("percentile of no values")
    rank = max(1, math.ceil(len(values) * percent / 100.0))
    return sorted(values)[rank - 1]


def summary(samples_ns: Sequence[int], per_sample: int, windows: "Sequence[Window]") -> Dict[str, Any]:
    """The fields of `edgeopt.core.measurement.Latency`.

    Args:
        samples_ns: Durations per inference, in order, each the mean of a batch of `per_sample`; at least one.
        per_sample: Inferences behind one sample.
        windows: The windows that the samples were taken in.
    """
    each = [int(sample) for sample in samples_ns]
    middle, mean = median(each), sum(each) / float(len(each))
    variance = sum((value - mean) ** 2 for value in each) / max(1, len(each) - 1)
    fields: Dict[str, Any] = {
        "samples_ns": each,
        "per_sample": per_sample,
        "windows_ns": [int(window.median_ns) for window in windows],
        "median_ns": int(middle),
        "mean_ns": int(mean),
        "min_ns": min(each),
        "max_ns": max(each),
        "mad_ns": int(median([abs(value - middle) for value in each])),
        "cv": math.sqrt(variance) / mean if mean else 0.0,
        "outlier_share": sum(value > OUTLIER_FACTOR * middle for value in each) / float(len(each)),
    }
    fields.update(average_ns=None, worst_ns=None)
    for name, percent, needed in PERCENTILES:
        fields[name] = percentile(each, percent) if len(each) >= needed else None
    return fields


class Window:
    """Median and, from ten samples on, 90th percentile of one window, in nanoseconds."""

    def __init__(self, samples_ns: Sequence[int]) -> None:
        self.median_ns = median(samples_ns)
        self.p90_ns = percentile(samples_ns, 90) if len(samples_ns) >= 10 else None


def within(values: Sequence[float], tolerance: float) -> bool:
    """Whether the spread of the values is at most `tolerance` of their smallest."""
    return max(values) - min(values) <= tolerance * min(values)


def stable(windows: Sequence[Window]) -> bool:
    """Whether the last three windows agree: medians within 5 %, 90th percentiles, where there are any, within 10 %."""
    last = windows[-STABLE_WINDOWS:]
    if len(last) < STABLE_WINDOWS or not within([window.median_ns for window in last], MEDIAN_TOLERANCE):
        return False
    tails = [window.p90_ns for window in last if window.p90_ns is not None]
    return len(tails) < len(last) or within(tails, P90_TOLERANCE)


class StoppingRule:
    """When a window ends and when the measured phase does, for back-to-back load.

    Args:
        plan: The fields of `edgeopt.core.plan.Plan`.
        expected_ns: Duration of one inference, as warm-up found it.
    """

    def __init__(self, plan: Dict[str, Any], expected_ns: float) -> None:
        self.fixed = float(plan.get("fixed_seconds") or 0.0)
        self.min_seconds = self.fixed or float(plan["min_seconds"])
        self.max_seconds = self.fixed or float(plan["max_seconds"])
        self.min_samples = int(plan["min_samples"])
        self.window_seconds = float(plan["window_seconds"])
        if not self.fixed:
            self.window_seconds = max(self.window_seconds, self.min_seconds / MAX_WINDOWS)
        longest = self.fixed or min(self.max_seconds, MAX_WINDOWS * self.window_seconds)
        self.per_sample = per_sample(expected_ns, longest, bool(self.fixed))
        expected_seconds = max(1.0, expected_ns * self.per_sample) / _NS
        # Ten windows must be able to reach the least sample, but a slow model still gets its three windows in time.
        wanted = max(10, math.ceil(self.min_samples / float(MAX_WINDOWS)))
        affordable = int(self.max_seconds / MAX_WINDOWS / expected_seconds)
        self.window_samples = max(3, min(wanted, affordable))

    def ended(self, seconds: float, samples: int, windows: Sequence[Window]) -> bool:
        """Whether to stop after a window."""
        if seconds >= self.max_seconds:
            return True
        if self.fixed or seconds < self.min_seconds or samples < self.min_samples:
            return False
        return stable(windows) or len(windows) >= MAX_WINDOWS


def per_sample(expected_ns: float, longest_seconds: float, fixed: bool = False) -> int:
    """Inferences behind one sample: 1, unless they are so fast, or so many in a fixed time, that samples would flood.

    Fast models (< 0.5 ms) are timed in batches of at least 0.1 ms, beside which the clock's cost (some 0.1 µs)
    vanishes, and of which at most about `MAX_SAMPLES` fit into the phase.

    Args:
        expected_ns: Duration of one inference.
        longest_seconds: How long the measured phase may last at this speed.
        fixed: Whether it lasts that long in any case.
    """
    expected = max(1.0, float(expected_ns))
    if expected >= FAST_NS and not fixed:
        return 1
    shortest = max(longest_seconds * _NS / MAX_SAMPLES, BATCH_NS)
    return max(1, math.ceil(shortest / expected))


def minute_medians(samples_ns: Sequence[int], inferences: float, minute_ns: int = _MINUTE_NS) -> List[int]:
    """Median of each minute of a back-to-back run; a last minute that was less than half full is left out.

    Args:
        samples_ns: Durations per inference, in order; at least one.
        inferences: Inferences behind each of them, over the number of sessions that made them at once.
        minute_ns: Length of a minute.
    """
    minutes: List[int] = []
    bucket: List[int] = []
    elapsed: float = 0
    for sample in samples_ns:
        bucket.append(sample)
        elapsed += sample * inferences
        if elapsed >= minute_ns:
            minutes.append(int(median(bucket)))
            bucket, elapsed = [], 0
    if bucket and (elapsed * 2 >= minute_ns or not minutes):
        minutes.append(int(median(bucket)))
    return minutes
