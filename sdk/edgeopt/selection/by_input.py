"""Which latency ranks and which is limited where a network does not take equally long for every input.

The median of a network that most inputs leave early is that of an early exit: it says nothing of the rest. So the
average over the data ranks, and the slowest input is held against the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeopt.core.budget import Statistic
from edgeopt.core.measurement import Latency
from edgeopt.selection.statistics import Bootstrap, latency_bootstrap


def typical_bootstrap(launches: Sequence[Latency], *, seed: int) -> Bootstrap | None:
    """What ranks: the median, or the average over inputs where the time depends on them.

    An average is that of the inputs' medians, which a hiccup of the board does not move; how uncertain it is, the means
    of the samples tell.
    """
    averages = [launch.average_ns for launch in launches if launch.average_ns is not None]
    if not averages:
        return latency_bootstrap(launches, "median", seed=seed)
    means = latency_bootstrap(launches, "mean", seed=seed)
    if means is None:
        return None
    average = sum(averages) / len(averages)
    return Bootstrap(average, means.replicates * (average / means.value))


def limited_bootstrap(launches: Sequence[Latency], statistic: Statistic, *, seed: int) -> Bootstrap | None:
    """What is held against a limit: the statistic, or the slowest input where that is more."""
    found = latency_bootstrap(launches, statistic, seed=seed)
    worst = max((launch.worst_ns or 0 for launch in launches), default=0)
    if found is None or found.value >= worst:
        return found
    return Bootstrap(float(worst), np.maximum(found.replicates, worst))
