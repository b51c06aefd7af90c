"""How much slower (or larger) a release is than what ran before, from boards that measured both: robust, with a bound.

The 20 % trimmed mean of log ratios, with its winsorised standard error (K. Yuen, The two-sample trimmed t for unequal
population variances, 1974): a fifth of the boards may say anything. With few boards the spread is drawn towards what
boards usually show (G. Smyth, Linear models and empirical Bayes methods, 2004, eq. 6-7), so that two boards that
happen to agree prove nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

USUAL_SPREAD = 0.15
"""Of a board's log ratio: two measurements of some 10 % noise."""

DISTURBED_SPREAD = 0.30
"""The same of a board that does other work meanwhile, or that heat slows."""

_TRIM = 0.2
_PRIOR_WEIGHT = 8.0
"""What is usual is worth as much as this many boards."""
_OUTLIER = 3.5
_LEAST_SCALE = 0.02


@dataclass(frozen=True)
class Change:
    """A relative change: 0.08 is 8 % more.

    Attributes:
        estimate: The best single number.
        low, high: Between them at the confidence that was asked for, on each side.
        boards: How many said so.
    """

    estimate: float
    low: float
    high: float
    boards: int


def change_of(pairs: Sequence[tuple[float, float]], confidence: float) -> Change | None:
    """The change from first to second, over boards that measured both.

    Args:
        pairs: Before and after of each board; what is not positive is left out.
        confidence: Of each bound by itself, for example 0.95.

    Returns:
        ``None`` where no board has said anything.
    """
    return change_of_logs(
        np.array([math.log(after / before) for before, after in pairs if before > 0 and after > 0]), confidence
    )


def change_of_logs(logs: Array, confidence: float, spread: float = USUAL_SPREAD) -> Change | None:
    """The same from log ratios, [boards], which usually have this spread."""
    count = logs.size
    if not count:
        return None
    ordered = np.sort(logs)
    cut = min(math.ceil(_TRIM * count), (count - 1) // 2) if count > 2 else 0
    kept = ordered[cut : count - cut]
    middle = float(kept.mean())
    error, freedom = _moderated(np.clip(ordered, kept[0], kept[-1]), cut, spread)
    half = student_quantile(confidence, freedom) * error
    low, high = (math.expm1(value) for value in (middle - half, middle + half))
    return Change(math.expm1(middle), low, high, count)


def _moderated(winsorised: Array, cut: int, spread: float) -> tuple[float, float]:
    """Standard error of the trimmed mean, and its degrees of freedom."""
    count = winsorised.size
    own = max(0, count - 2 * cut - 1)
    variance = float(winsorised.var(ddof=1)) if own else 0.0
    # what trimming takes from the spread of a normal sample is given back, so that both terms speak of one board
    per_board = variance / (1 - 2 * cut / count) ** 2
    pooled = (_PRIOR_WEIGHT * spread**2 + own * per_board) / (_PRIOR_WEIGHT + own)
    return math.sqrt(pooled / count), _PRIOR_WEIGHT + own


def outliers(logs: Array) -> NDArray[np.bool_]:
    """Which log ratios, [boards], do not belong to the others (B. Iglewicz and D. Hoaglin, 1993: modified z above 3.5).

    NaN is no outlier; with fewer than five numbers nothing can be told.
    """
    known = logs[~np.isnan(logs)]
    if known.size < 5:
        return np.zeros(logs.size, np.bool_)
    middle = np.median(known)
    scale = max(float(np.median(np.abs(known - middle))) / 0.6745, _LEAST_SCALE)
    odd: NDArray[np.bool_] = np.abs(logs - middle) > _OUTLIER * scale
    return odd


def student_quantile(share: float, freedom: float) -> float:
    """A quantile of Student's t (G. W. Hill, Algorithm 396, 1970): within 0.5 % for three or more degrees of freedom.

    Args:
        share: In (0.5, 1).
        freedom: Degrees of freedom, at least 3.
    """
    two_tails = 2 * (1 - share)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * two_tails) ** (2 / freedom)
    if y > 0.05 + a:
        x = -statistics.NormalDist().inv_cdf(share)
        y = x**2
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * -x
        y = math.expm1(a * y**2)
    else:
        y = (
            (1 / (((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3) + 0.5 / (freedom + 4)) * y
            - 1
        ) * (freedom + 1) / (freedom + 2) + 1 / y
    return math.sqrt(freedom * y)
