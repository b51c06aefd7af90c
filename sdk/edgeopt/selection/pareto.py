"""The Pareto front: points that no other point is at least as good as in everything and better in something."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is at most `other` in every coordinate and less in one; infinite where nothing is known."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def front(points: Sequence[Point]) -> list[bool]:
    """Which of the points nothing dominates; equal points are on the front together. Points without NaN only."""
    return [not any(dominates(other, point) for other in points) for point in points]
