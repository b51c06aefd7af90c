"""Racing: which of several candidates that take turns on a board can no longer win, judged anew after every round.

The test is sequential: it may be looked at after every launch and errs no more often than stated over all looks
together. It works on ratios of launches of the same round, so that what slows the board for a while slows both. A test
for a number of launches that is fixed beforehand would be narrower once, and wrong when looked at twice.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from edgeopt.core.budget import Objective
from edgeopt.core.measurement import Measurement
from edgeopt.core.selection import Interval

ERROR = 0.05
"""Of all looks at all pairs together."""

LEAST_DIFFERENCE = 0.01
"""Relative difference that is no difference (facts: measurement protocol §5.2)."""

ENOUGH = 8
"""Rounds from which on ratios by round tell more than the windows inside the launches."""

FEW = 4
"""Rounds from which on ratios by round that are certain count: of fewer, the known noise of the board tells more."""

_SCALES = (0.1, 100.0)  # variances of the effect that is looked for: one small and many rounds, one large and few


@dataclass(frozen=True)
class Paired(Interval):
    """The ratio of two candidates over rounds of launches; what the board's noise does to it is in the interval."""


def paired_ratio(one: Sequence[float], other: Sequence[float], *, error: float = ERROR) -> Paired:
    """The ratio of the times of two candidates, with an interval that holds at every look at once.

    T. L. Lai: On Confidence Sequences, 1976, with a Gaussian mixture over the effect instead of a flat one (H. Wang, A.
    Ramdas: Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance, 2023), on the
    logarithms of the ratios. With n rounds, a mixture of variance g and error a, the values of t are not refuted for
    which t² / (n - 1) ≤ (K - 1) / (1 - K / (1 + n g)), where K = ((1 + n g) / a²)^(1/n). Two mixtures share the
    error, so that large differences end soon and small ones end at all.

    Args:
        one, other: [rounds], positive; entries at the same place are of the same round.
        error: Probability that the interval of any look leaves the true ratio out.

    Returns:
        The geometric mean of the ratios; from 0 to infinity where the rounds are too few.
    """
    ratios = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    count = len(ratios)
    mean = math.fsum(ratios) / count if count else 0.0
    if count < 2:
        return Paired(math.exp(mean), 0.0, math.inf)
    spread = math.sqrt(math.fsum((ratio - mean) ** 2 for ratio in ratios) / (count - 1))
    half = min(_quantile(count, scale, error / len(_SCALES)) for scale in _SCALES) * max(spread, 1e-9) / count**0.5
    return Paired(math.exp(mean), math.exp(mean - half), math.exp(mean + half) if half < 700 else math.inf)


def _quantile(count: int, scale: float, error: float) -> float:
    """The largest t that is not refuted after `count` rounds; infinite where none is."""
    grown = 1 + count * scale
    factor = (grown / error**2) ** (1 / count)
    if factor >= grown:
        return math.inf
    return math.sqrt((count - 1) * (factor - 1) / (1 - factor / grown))


def round_values(launches: Sequence[Measurement], objective: Objective) -> tuple[float | None, ...]:
    """What each launch says of a time that is raced for; ``None`` where it may not rank or the objective is no time.

    Args:
        launches: In the order of the rounds.
        objective: What is made small.
    """
    return tuple(_value(launch, objective) if launch.valid else None for launch in launches)


def _value(launch: Measurement, objective: Objective) -> float | None:
    if objective == "time-per-item":
        return 1e9 / launch.items_per_second if launch.items_per_second else None
    if objective != "latency" or launch.latency is None:
        return None
    return float(launch.latency.average_ns or launch.latency.median_ns)


def paired(one: Sequence[float | None], other: Sequence[float | None], *, error: float = ERROR) -> tuple[Paired, int]:
    """The ratio over the rounds in which both have a value, and how many these are.

    Args:
        one, other: Values by round (`round_values`); a candidate that left the race has fewer.
        error: As for `paired_ratio`.
    """
    both = [(a, b) for a, b in zip(one, other, strict=False) if a and b]
    return paired_ratio([a for a, _ in both], [b for _, b in both], error=error), len(both)


def alike(rounds: Mapping[str, Sequence[float | None]], *, error: float = ERROR) -> bool:
    """Whether no candidate can be faster than another by what makes a difference, however many rounds there were.

    Args:
        rounds: Values by round of each candidate, at least two.
        error: Probability that two which differ are called alike at any look.
    """
    pairs = list(combinations(rounds.values(), 2))
    found = (paired(one, other, error=error / len(pairs))[0] for one, other in pairs)
    return all(ratio.low > 1 - LEAST_DIFFERENCE and ratio.high < 1 + LEAST_DIFFERENCE for ratio in found)


def losers(
    rounds: Mapping[str, Sequence[float | None]], sure: Collection[str], *, error: float = ERROR
) -> frozenset[str]:
    """Candidates that cannot win any more: one that may is certainly faster, by more than makes a difference.

    Maron, Moore: Hoeffding Races, 1994; Birattari, Stützle, Paquete, Varrentrapp: A Racing Algorithm for Configuring
    Metaheuristics, 2002. The error is shared by as many pairs as could throw the best one out.

    Args:
        rounds: Values by round of each candidate that is in the race.
        sure: Those that are certain to be within the budget: nothing else may throw a candidate out.
        error: Probability that the best candidate is thrown out at any look.
    """
    share = error / max(1, len(rounds) - 1)
    return frozenset(
        name
        for name, values in rounds.items()
        for rival in sure
        if rival != name and paired(values, rounds[rival], error=share)[0].low > 1 + LEAST_DIFFERENCE
    )
