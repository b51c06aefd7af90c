"""The Pareto front: points that no other point is at least as good as in everything and better in something."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is at most `other` in every coordinate and less in one; infinite where nothing is known."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def front(points: Sequence[Point]) -> list[bool]:
    """Which of the points nothing dominates; equal points are on the front together. Points without NaN only."""
    return [not any(dominates(other, point) for other in points) for point in points]


def ranks(points: Sequence[Point]) -> list[int]:
    """0 for points on the front, 1 for those on the front without them, and so on.

    Deb, Pratap, Agarwal, Meyarivan: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, 2002, §III-A. Points
    without NaN only.
    """
    found = [0] * len(points)
    left = list(range(len(points)))
    rank = 0
    while left:
        kept = front([points[place] for place in left])
        for place in left:
            found[place] = rank
        left = [place for place, keep in zip(left, kept, strict=True) if not keep]
        rank += 1
    return found


def crowding(points: Sequence[Point]) -> list[float]:
    """How far from its neighbours each point of one front is, all coordinates added, each in parts of its range.

    NSGA-II, §III-B: infinite at the ends of each coordinate. Finite points only.
    """
    found = [0.0] * len(points)
    for values in zip(*points, strict=True):
        order = sorted(range(len(points)), key=values.__getitem__)
        span = values[order[-1]] - values[order[0]]
        found[order[0]] = found[order[-1]] = math.inf
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            found[place] += (values[after] - values[before]) / span if span else 0.0
    return found
