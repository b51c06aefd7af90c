"""Which of several points of a search space looks best, from what was found at others: here, and on other boards.

The strategy says what may be tried, a regression over choices which of that comes first, and the board what it is
worth. A regression without products of choices is what tens of trials bear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeopt.core.space import Point, Trial

Array = NDArray[np.float64]

LEAST_TRIALS = 6
"""Trials that ran below which nothing is expected."""

_PENALTY = 1.0
_MISSED = 1.0
"""A point over the budget counts as e times slower, and more the farther it is over it."""


def expects(trials: Sequence[Trial], kin: Sequence[Sequence[Trial]] = ()) -> bool:
    """Whether enough is known to prefer one point to another."""
    return sum(trial.measured for group in (trials, *kin) for trial in group) >= LEAST_TRIALS


def most_promising(proposals: Sequence[Point], trials: Sequence[Trial], kin: Sequence[Sequence[Trial]] = ()) -> Point:
    """The proposal of which least is expected; the first one where too little is known, or among equals.

    Args:
        proposals: At least one.
        trials: Of this study, on this kind of board.
        kin: Of the same search on other kinds: choices matter there as they do here, but for the level of all.
    """
    groups = [[trial for trial in group if trial.measured] for group in (trials, *kin)]
    ran = [trial for group in groups for trial in group]
    if not expects(trials, kin):
        return proposals[0]
    names = sorted({_name(item) for trial in ran for item in trial.point.items()})
    features, costs = _matrix([trial.point for trial in ran], names), np.array([_cost(trial) for trial in ran])
    start = 0
    for group in groups:
        if group:
            part = slice(start, start := start + len(group))
            features[part] -= features[part].mean(axis=0)
            costs[part] -= costs[part].mean()
    weights = np.linalg.solve(features.T @ features + _PENALTY * np.eye(len(names)), features.T @ costs)
    expected = _matrix(proposals, names) @ weights
    return proposals[int(np.argmin(np.round(expected, 9)))]


def _name(item: tuple[str, object]) -> str:
    return f"{item[0]}={item[1]!r}"


def _matrix(points: Sequence[Point], names: Sequence[str]) -> Array:
    return np.array(
        [[name in {_name(item) for item in point.items()} for name in names] for point in points], np.float64
    )


def _cost(trial: Trial) -> float:
    missed = _MISSED + min(trial.excess, 3.0) if trial.excess > 0 else 0.0
    return math.log(max(trial.objectives[0], 1e-9)) + missed
