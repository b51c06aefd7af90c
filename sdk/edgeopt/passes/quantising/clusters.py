"""K-means of numbers: few values that stand for many.

Han, Mao, Dally: Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
Coding, 2016, §3.1 (eq. 2) and §3.2: centroids that start evenly spaced did best, as they reach the rare large weights.
In one dimension a cluster is an interval of the sorted numbers, so a round takes a few look-ups in their running sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

_ROUNDS = 200


def centroids(values: Floats, count: int) -> Floats:
    """At most `count` centroids, rising; the values themselves where there are no more different ones.

    Args:
        values: Any shape, finite.
        count: 2 at least; with exact zeros among the values, as pruning leaves them, one of the centroids is zero.
    """
    different: Floats = np.unique(values)
    if len(different) <= count:
        return different
    rest = values[values != 0]
    if len(rest) == values.size:
        return _fitted(rest, count)
    with_zero: Floats = np.unique(np.append(_fitted(rest, count - 1), np.float32(0)))
    return with_zero


def assigned(values: Floats, centres: Floats) -> NDArray[np.uint8]:
    """Place of the nearest centroid of each value; `centres` rise, 256 at most. Zero goes to zero if there is one."""
    return np.searchsorted(_borders(centres), values).astype(np.uint8)


def _fitted(values: Floats, count: int) -> Floats:
    ordered = np.sort(values, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.linspace(ordered[0], ordered[-1], count)
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(ordered, _borders(centres)), [len(ordered)]])
        sizes = np.diff(ends)
        moved = np.where(sizes > 0, np.diff(sums[ends]) / np.maximum(sizes, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    different: Floats = np.unique(centres.astype(np.float32))
    return different


def _borders(centres: Floats) -> Floats:
    exact = centres.astype(np.float64)
    borders: Floats = (exact[1:] + exact[:-1]) / 2
    return borders
