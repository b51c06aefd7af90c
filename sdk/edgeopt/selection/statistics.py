"""Estimates with 95 % confidence intervals: latency over launches and windows, accuracy over paired samples.

Latency is bootstrapped in blocks, launches first and then the windows inside them (B. Efron and R. Tibshirani, An
Introduction to the Bootstrap, 1993, §8.5-8.6): samples that follow each other are not independent, and neither are
two windows of one process. A t-interval would call them so and be far too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeopt.core.budget import Statistic
from edgeopt.core.measurement import Latency, Measurement
from edgeopt.core.selection import Interval

Array = NDArray[np.float64]

MIN_SAMPLES: dict[Statistic, int] = {"p90": 64, "p95": 130, "p99": 662}
"""Samples below which a percentile says nothing (facts: measurement protocol §5.1)."""

_QUANTILES: dict[Statistic, float] = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_RESAMPLES = 1000
_GRID = 1024  # latencies at which distributions are compared; finer than any clock's noise
_MOST_DISTINCT = 4096


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A point estimate and what it would have been in each of the resampled worlds.

    Attributes:
        value: The estimate.
        replicates: [resamples], the estimates of the resamples.
    """

    value: float
    replicates: Array

    def interval(self) -> Interval:
        """The 95 % percentile interval; it always contains the estimate."""
        return _interval(self.value, self.replicates)

    def over(self, other: Bootstrap) -> Interval:
        """The ratio of this to another, independently measured, positive quantity."""
        return _interval(self.value / other.value, self.replicates / other.replicates)


def latency_bootstrap(launches: Sequence[Latency], statistic: Statistic, *, seed: int) -> Bootstrap | None:
    """A statistic of the latency over all launches, every launch weighing the same.

    Args:
        launches: At least one; each is cut into as many blocks as it has windows.
        statistic: Percentiles are the smallest latency that at least that share of inferences kept. ``max`` has no
            interval: what was not seen cannot be resampled.
        seed: Same seed, same replicates.

    Returns:
        Nanoseconds; ``None`` where there are no samples, or too few for the percentile.
    """
    blocks = [_blocks(launch) for launch in launches if launch.samples_ns]
    count = sum(block.size for launch in blocks for block in launch)
    if count < MIN_SAMPLES.get(statistic, 1):
        return None
    if statistic == "max":
        largest = max(float(block.max()) for launch in blocks for block in launch)
        return Bootstrap(largest, np.full(_RESAMPLES, largest))
    if statistic == "mean":
        totals = _mixtures([np.array([[block.sum()] for block in launch]) for launch in blocks], blocks, seed)[:, 0]
        return Bootstrap(float(totals[0]), totals[1:])
    grid = _grid(blocks)
    below = [np.array([np.searchsorted(np.sort(block), grid, "right") for block in launch]) for launch in blocks]
    shares = _mixtures(below, blocks, seed)
    values = grid[np.argmax(shares >= _QUANTILES[statistic] - 1e-9, axis=1)]
    return Bootstrap(float(values[0]), values[1:])


def drop_interval(reference: Sequence[float], values: Sequence[float], *, seed: int) -> Interval:
    """Mean loss per sample against a reference on the same samples, by paired bootstrap.

    Args:
        reference: [samples], at least one, finite.
        values: [samples], in the same order, finite.
        seed: Same seed, same interval.
    """
    losses, counts = np.unique(np.asarray(reference, np.float64) - np.asarray(values, np.float64), return_counts=True)
    size = int(counts.sum())
    mean = float(losses @ counts) / size
    if losses.size > _MOST_DISTINCT:  # then the mean is normal for every purpose, and the table would be large
        half = 1.96 * math.sqrt(float((losses - mean) ** 2 @ counts) / size / size)
        return Interval(mean, mean - half, mean + half)
    resampled = np.random.default_rng(seed).multinomial(size, counts / size, _RESAMPLES)
    return _interval(mean, resampled @ losses / size)


def launch_noise(launches: Sequence[Measurement]) -> float:
    """Relative A/A noise of a device: the largest difference of medians among three launches of the same candidate.

    Of more it is the mean over all threes that follow each other: a largest difference grows with their number.

    Args:
        launches: Of one variant with one setting; those that may not rank are left out. With fewer than two there is
            nothing to compare and the noise is 0.
    """
    medians = [launch.latency.median_ns for launch in launches if launch.valid and launch.latency]
    if len(medians) < 2:
        return 0.0
    threes = [medians[place : place + 3] for place in range(max(1, len(medians) - 2))]
    return math.fsum(max(three) / min(three) - 1 for three in threes) / len(threes)


def _interval(value: float, replicates: Array) -> Interval:
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _blocks(launch: Latency) -> list[Array]:
    samples = np.asarray(launch.samples_ns, np.float64)
    return np.array_split(samples, max(1, min(len(launch.windows_ns), samples.size)))


def _grid(launches: Sequence[Sequence[Array]]) -> Array:
    """All latencies seen, or enough of them: [latencies], ascending, with the largest."""
    seen: Array = np.unique(np.concatenate([block for launch in launches for block in launch]))
    if seen.size > _GRID:
        seen = seen[np.linspace(0, seen.size - 1, _GRID).astype(np.intp)]
    return seen


def _mixtures(sums: Sequence[Array], launches: Sequence[Sequence[Array]], seed: int) -> Array:
    """Averages over samples, launches weighing the same: first as they were, then resampled.

    Drawing k launches and then all windows of each anew is the same as drawing k times as many windows at once.

    Args:
        sums: For each launch [blocks, quantities], summed over the samples of each block.
        launches: For each launch its blocks.
        seed: Of the draws.

    Returns:
        [1 + resamples, quantities].
    """
    rng = np.random.default_rng(seed)
    count = len(launches)
    chosen = np.vstack([np.ones(count, np.int64), rng.multinomial(count, [1 / count] * count, _RESAMPLES)])
    weights = []
    for blocks, times in zip(launches, chosen.T, strict=True):
        drawn = rng.multinomial(times * len(blocks), [1 / len(blocks)] * len(blocks))
        drawn[0] = 1
        sizes = np.array([block.size for block in blocks])
        weights.append(drawn * (times / count / np.maximum(drawn @ sizes, 1))[:, None])
    mixed: Array = np.matmul(np.hstack(weights), np.vstack(sums).astype(np.float64))
    return mixed
