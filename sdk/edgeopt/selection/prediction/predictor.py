"""Predictors of latency, and the choice between them by launches that were kept from them.

The learned one corrects the roofline's estimate, so that with few rows it is near it: a ridge regression over
logarithms (Hoerl, Kennard: Ridge Regression, 1970). Nearest neighbours ordered networks that were kept from them less
well; deeper models (such as Dudziak et al.: BRP-NAS, 2020) want thousands of networks.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeopt.core.work import Observation, Task
from edgeopt.selection.prediction.features import Array, Scale
from edgeopt.selection.prediction.roofline import about_ns

LEAST_ROWS = 8
"""Launches below which nothing is learned from them."""

_FOLDS = 8
_PENALTY = 3.0
_MOST_ERROR = 20.0


class Predictor(Protocol):
    """Says how long tasks will take."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    def __call__(self, tasks: Sequence[Task]) -> list[float]:
        """Nanoseconds of each; for their order rather than for their size."""
        ...


@dataclass(frozen=True)
class Roofline:
    """Knows no launch."""

    name: str = "roofline"

    def __call__(self, tasks: Sequence[Task]) -> list[float]:
        """See `Predictor`."""
        return [about_ns(task) for task in tasks]


class Ridge:
    """A regression of the logarithm of the latency over the roofline's estimate, with a level of each network's own.

    Only what differs between launches of one network on one board counts (the within estimator: Mundlak: On the Pooling
    of Time Series and Cross Section Data, 1978): a network that was slow once says nothing of the order of its forms.
    """

    name = "ridge regression"

    def __init__(self, rows: Sequence[Observation]) -> None:
        tasks = [row.task for row in rows]
        self._scale, errors = Scale(tasks), _errors(rows)
        self._level = float(errors.mean())
        features = self._scale.rows(tasks)
        for places in _networks(rows).values():
            features[places] -= features[places].mean(axis=0)
            errors[places] -= errors[places].mean()
        penalised = features.T @ features + _PENALTY * np.eye(features.shape[1])
        self._weights: Array = np.linalg.solve(penalised, features.T @ errors)

    def __call__(self, tasks: Sequence[Task]) -> list[float]:
        """See `Predictor`."""
        if not tasks:
            return []
        errors = np.clip(self._level + self._scale.rows(tasks) @ self._weights, -_MOST_ERROR, _MOST_ERROR)
        return [about_ns(task) * math.exp(error) for task, error in zip(tasks, errors, strict=True)]


def _errors(rows: Sequence[Observation]) -> Array:
    return np.array([math.log(row.latency_ns / about_ns(row.task)) for row in rows])


def _networks(rows: Sequence[Observation]) -> dict[tuple[str, str], list[int]]:
    """Places of the launches of each network on each board."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        found[row.model, row.task.machine.fingerprint].append(place)
    return found


def learned(rows: Sequence[Observation]) -> Predictor:
    """What orders launches best that it was not shown: a regression, or the roofline where that is as good.

    Args:
        rows: Launches; the same ones in any order give the same predictor.
    """
    ordered = sorted(
        rows, key=lambda row: (row.model, row.variant, str(row.task.settings), row.task.machine.fingerprint)
    )
    if len(ordered) < LEAST_ROWS:
        return Roofline()
    plain = _score(ordered, Roofline()([row.task for row in ordered]))
    return Ridge(ordered) if _score(ordered, _held_out(ordered)) > plain else Roofline()


def _folds(rows: Sequence[Observation]) -> list[int]:
    """A fold for each row: whole networks on whole boards, or whole files where there is but one of these."""
    groups = [f"{row.model} {row.task.machine.fingerprint}" for row in rows]
    if len(set(groups)) == 1:
        groups = [row.variant for row in rows]
    return [int(hashlib.sha256(group.encode()).hexdigest(), 16) % _FOLDS for group in groups]


def _held_out(rows: Sequence[Observation]) -> list[float]:
    """What the regression says of each row when it was not shown that row's fold."""
    folds, predicted = _folds(rows), [0.0] * len(rows)
    for fold in set(folds):
        kept = [row for row, other in zip(rows, folds, strict=True) if other != fold]
        places = [place for place, other in enumerate(folds) if other == fold]
        found = (Ridge(kept) if kept else Roofline())([rows[place].task for place in places])
        for place, value in zip(places, found, strict=True):
            predicted[place] = value
    return predicted


def _score(rows: Sequence[Observation], predicted: Sequence[float]) -> float:
    """Mean rank correlation over networks and boards, each weighing by its launches."""
    total, weight = 0.0, 0
    for places in _networks(rows).values():
        found = rank_correlation([predicted[i] for i in places], [rows[i].latency_ns for i in places])
        if found is not None:
            total, weight = total + found * len(places), weight + len(places)
    return total / weight if weight else 0.0


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's coefficient, equal values sharing their mean rank; ``None`` below three pairs or where all are equal.

    C. Spearman: The Proof and Measurement of Association between Two Things, 1904.
    """
    if len(one) < 3:
        return None
    a, b = _ranks(one), _ranks(other)
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else None


def _ranks(values: Sequence[float]) -> Array:
    _, places, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts - 1) / 2.0)[places]
    return ranks
