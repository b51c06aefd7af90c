"""Evolutionary search: children of the best of a few young points, changed in one choice.

Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier Architecture Search, 2019, algorithm 1: the
population is what was tried last, the oldest die. As there is more than one objective, who wins a tournament is told by
non-domination and crowding (Deb et al.: NSGA-II, 2002), and the best few do not age: with tens of trials
instead of tens of thousands, they would be lost before they had children.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from edgeopt.core.space import Point, Space, Trial, Value
from edgeopt.selection.strategies._base import generator, history, opening, ranked, untried

FIRST = 8
"""Points before the first child."""
POPULATION = 16
ELITE = 4
TOURNAMENT = 4
_CROSSED = 0.5  # share of children with two parents
_TRIES = 64


class Evolutionary:
    """Varies what was good so far; right for large spaces whose choices act on each other, from about 30 trials on."""

    name: ClassVar[str] = "evolutionary"

    def ask(self, space: Space, trials: Sequence[Trial], seed: int) -> Point | None:
        """See `Strategy.ask`."""
        known, draw = history(space, trials), generator(seed, trials)
        tried = [one.point for one in known]
        if len(known) < FIRST or space.gentlest() not in tried:
            return opening(space, tried, draw)
        best = ranked(known)
        young = known[-POPULATION:]
        parents = [one.point for one in best if one in young or one in best[:ELITE]]
        for _ in range(_TRIES):
            child = _child(space, parents, draw)
            if child not in tried:
                return child
        return untried(space, tried, draw)


def _child(space: Space, parents: Sequence[Point], draw: random.Random) -> Point:
    point = _winner(parents, draw)
    if draw.random() < _CROSSED:
        other = _winner(parents, draw)
        point = space.completed({**point, **{name: value for name, value in other.items() if draw.random() < 0.5}})
    return _mutated(space, point, draw)


def _winner(parents: Sequence[Point], draw: random.Random) -> Point:
    """The best of a few; parents are in order, best first."""
    return parents[min(draw.randrange(len(parents)) for _ in range(TOURNAMENT))]


def _mutated(space: Space, point: Point, draw: random.Random) -> Point:
    """One choice by one step, or anew."""
    if draw.random() < 0.5 and (around := space.neighbours(point)):
        return draw.choice(around)
    open_choices = [choice for choice in space.choices if choice.name in point and len(choice.values) > 1]
    if not open_choices:
        return point
    choice = draw.choice(open_choices)
    others: list[Value] = [value for value in choice.values if value != point[choice.name]]
    return space.completed({**point, choice.name: draw.choice(others)})
