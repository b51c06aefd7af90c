"""What a strategy of search is, how trials compare, and how an untried point is drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from edgeopt.core.space import Point, Space, Trial, Value
from edgeopt.selection.pareto import crowding, ranks


class Strategy(Protocol):
    """Which point of a space to try next.

    Attributes:
        name: What users call it.
    """

    name: ClassVar[str]

    def ask(self, space: Space, trials: Sequence[Trial], seed: int) -> Point | None:
        """The next point, never one that was tried; a function of the arguments alone, so that a search can be resumed.

        Args:
            space: What may be chosen.
            trials: All that was tried, oldest first; objectives are made small, and those over the budget by less are
                better than those over it by more. Trials of points that are not in the space (any more) say nothing.
            seed: Of all that is random.

        Returns:
            A point of the space; ``None`` when all were tried.

        Raises:
            UsageError: Something that it needs is not installed.
        """
        ...


@dataclass(frozen=True)
class Standing:
    """What a trial is worth, without NaN.

    Attributes:
        point: What was chosen.
        excess: By how much it is over the budget; 0 within it, infinite where it did not run.
        objectives: Finite; empty where it did not run.
    """

    point: Point
    excess: float
    objectives: tuple[float, ...]

    @classmethod
    def of(cls, trial: Trial) -> Standing:
        """That of a trial; figures that are no numbers count as not having run."""
        if not trial.measured or not math.isfinite(trial.excess) or not all(map(math.isfinite, trial.objectives)):
            return cls(trial.point, math.inf, ())
        return cls(trial.point, max(0.0, trial.excess), trial.objectives)

    @property
    def first(self) -> tuple[float, ...]:
        """Order by the budget and then by the objectives, the first one first."""
        return (self.excess, *self.objectives)


def history(space: Space, trials: Sequence[Trial]) -> list[Standing]:
    """Standings of the points of the space that were tried, oldest first; of a point tried twice the last."""
    found = {frozenset(trial.point.items()): Standing.of(trial) for trial in trials if trial.point in space}
    return list(found.values())


def ranked(standings: Sequence[Standing]) -> list[Standing]:
    """Best first, by constraint domination.

    Deb, Pratap, Agarwal, Meyarivan: NSGA-II, 2002, §VI: what holds the budget comes first, by rank of non-domination
    and then the least crowded; what does not follows by how much it is over.
    """
    holding = [one for one in standings if one.excess == 0]
    levels = ranks([one.objectives for one in holding])
    found: list[Standing] = []
    for level in range(max(levels, default=-1) + 1):
        members = [one for one, rank in zip(holding, levels, strict=True) if rank == level]
        apart = crowding([one.objectives for one in members])
        found += [members[place] for place in sorted(range(len(members)), key=lambda place: -apart[place])]
    return found + sorted((one for one in standings if one.excess > 0), key=lambda one: one.first)


def generator(seed: int, trials: Sequence[Trial]) -> random.Random:
    """Random numbers of their own for each trial of a search."""
    return random.Random(f"{seed} {len(trials)}")


def untried(space: Space, tried: Sequence[Point], draw: random.Random) -> Point | None:
    """One of the points that are not tried, each as likely as any other; ``None`` where there is none.

    Choice by choice, each value by how many untried points begin with it: exact for spaces of any size.
    """
    left = [dict(point) for point in tried]
    point: dict[str, Value] = {}
    for choice in space.choices:
        if not choice.asked(point):
            continue
        ways = [{**point, choice.name: value} for value in choice.values]
        open_points = [space.size(way) - sum(way.items() <= one.items() for one in left) for way in ways]
        if not any(open_points):
            return None
        point = draw.choices(ways, open_points)[0]
    return None if point in left else point


def opening(space: Space, tried: Sequence[Point], draw: random.Random) -> Point | None:
    """A first point: the gentlest, then random ones."""
    gentlest = space.gentlest()
    return gentlest if gentlest not in tried else untried(space, tried, draw)
