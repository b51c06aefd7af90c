"""Finds which output channels of a layer its pruned form has kept, from weights alone or from outputs.

Nothing is written down by the pass that pruned: so it works behind any pruner, ours or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]

LEAST_AGREEMENT = 0.9
"""Share of a row's values that must be found in one row of the original."""
LEAST_CORRELATION = 0.5
"""Mean over the channels, below which outputs tell nothing."""


def kept_by_weights(original: Tensor, pruned: Tensor) -> list[int] | None:
    """Rows of `original` that the rows of `pruned` are, whichever of their columns are gone.

    Args:
        original: Weights [rows, ...].
        pruned: Weights [fewer rows, ...] whose values were not changed.

    Returns:
        An index for each row of `pruned`, rising; ``None`` where values were changed or fit several rows.
    """
    if len(original) == len(pruned):
        return list(range(len(pruned)))
    values = original.detach().reshape(len(original), -1).numpy()
    wanted = pruned.detach().reshape(len(pruned), -1).numpy()
    order = np.argsort(values, axis=None, kind="stable")
    ascending, owner = values.ravel()[order], order // values.shape[1]
    left, right = np.searchsorted(ascending, wanted), np.searchsorted(ascending, wanted, side="right")
    once = right - left == 1  # zeros and values on a grid occur often, and say nothing
    votes = np.zeros((len(wanted), len(values)), np.int64)
    rows = np.broadcast_to(np.arange(len(wanted))[:, None], wanted.shape)[once]
    np.add.at(votes, (rows, owner[left[once]]), 1)
    kept = votes.argmax(1)
    sure = votes.max(1) >= np.maximum(1, LEAST_AGREEMENT * (wanted != 0).sum(1))
    return [int(row) for row in kept] if sure.all() and (np.diff(kept) > 0).all() else None


def kept_by_outputs(batches: Iterable[tuple[Tensor, Tensor]]) -> list[int] | None:
    """Channels of the original whose outputs are most like the pruned layer's, in rising order.

    Args:
        batches: Outputs of the original [n, channels] and of the pruned layer [n, fewer channels], at the same places.

    Returns:
        The rising indices with the greatest sum of correlations; ``None`` below `LEAST_CORRELATION`.
    """
    correlations = _correlations(batches)
    chosen = _rising_assignment(correlations)
    mean = correlations[np.arange(len(chosen)), chosen].mean()
    return chosen if mean >= LEAST_CORRELATION else None


def _correlations(batches: Iterable[tuple[Tensor, Tensor]]) -> Array:
    """Pearson's correlation of every pruned with every original channel [fewer, channels]; 0 for constant ones."""
    moments: list[Tensor] = []
    count = 0
    for original, pruned in batches:
        a, b = pruned.double(), original.double()
        sums = [a.sum(0), b.sum(0), a.square().sum(0), b.square().sum(0), a.T @ b]
        moments = [old + new for old, new in zip(moments, sums, strict=True)] if moments else sums
        count += len(a)
    a_mean, b_mean, a_square, b_square, cross = (moment / count for moment in moments)
    a_spread, b_spread = (a_square - a_mean**2).clamp_min(0).sqrt(), (b_square - b_mean**2).clamp_min(0).sqrt()
    scale = torch.outer(a_spread, b_spread)
    covariance = cross - torch.outer(a_mean, b_mean)
    result: Array = torch.where(scale > 0, covariance / scale.clamp_min(1e-30), 0.0).numpy()
    return result


def _rising_assignment(scores: Array) -> list[int]:
    """The rising columns, one for each row, with the greatest sum; by dynamic programming, rows × columns."""
    rows, columns = scores.shape
    best = np.full((rows + 1, columns + 1), -np.inf)
    best[0] = 0
    for row in range(rows):
        best[row + 1, 1:] = np.maximum.accumulate(best[row, :-1] + scores[row])
    chosen, column = [], columns
    for row in reversed(range(rows)):
        while best[row + 1, column - 1] == best[row + 1, column]:
            column -= 1
        column -= 1
        chosen.append(column)
    return chosen[::-1]
