"""Greedy search: goes from the original to the best neighbour, and then along the Pareto front.

Hill climbing as in Russell, Norvig: Artificial Intelligence, 2010, §4.1.1; where it ends, the neighbours of what is on
the front are next (Paquete, Chiarandini, Stützle: Pareto Local Optimum Sets in the Biobjective Traveling Salesman
Problem, 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edgeopt.core.space import Point, Space, Trial
from edgeopt.selection.strategies._base import Standing, history, ranked


class Greedy:
    """Changes one choice at a time by one step; right where each choice helps by itself and trials are few."""

    name: ClassVar[str] = "greedy"

    def ask(self, space: Space, trials: Sequence[Trial], seed: int) -> Point | None:  # noqa: ARG002 - nothing is random here
        """See `Strategy.ask`."""
        return _Climb(space, history(space, trials)).next()


class _Climb:
    def __init__(self, space: Space, standings: Sequence[Standing]) -> None:
        self.space = space
        self.standings = standings
        self.known = {_key(one.point): one for one in standings}

    def next(self) -> Point | None:
        """The first neighbour that is untried: of the places of the climb in order, then of the best, then of any."""
        here = self.known.get(_key(self.space.gentlest()))
        if here is None:
            return self.space.gentlest()
        while here:
            around = self.space.neighbours(here.point)
            if (point := self._untried(around)) is not None:
                return point
            best = min((self.known[_key(one)] for one in around), key=lambda one: one.first, default=here)
            here = best if best.objectives and best.first[:2] < here.first[:2] else None
        for one in ranked(self.standings):
            if (point := self._untried(self.space.neighbours(one.point))) is not None:
                return point
        return None

    def _untried(self, points: Sequence[Point]) -> Point | None:
        return next((point for point in points if _key(point) not in self.known), None)


def _key(point: Point) -> object:
    return frozenset(point.items())
