"""What strategies are worth: how near to the true front they are after 60 trials of a space that is known whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from edgeopt.core.space import Choice, Point, Space, Trial, Value
from edgeopt.selection.strategies import strategy

SHARES = (1.0, 0.75, 0.5, 0.25)
SPACE = Space(
    "known",
    (
        Choice("resolution", (1.0, 0.75, 0.5)),
        Choice("early", SHARES),
        Choice("middle", SHARES),
        Choice("late", SHARES),
        Choice("kernel", (5, 3)),
        Choice("depth", (None, 0.25, 0.5)),
        Choice("storage", ("float32", "int8", "int4")),
        Choice("calibrator", ("minmax", "entropy"), when={"storage": ("int8",)}),
        Choice("block", (32, 64), when={"storage": ("int4",)}),
    ),
    (),
)
MOST_LOSS = 0.05
TRIALS, SEEDS = 60, range(5)


def figures(point: Point) -> tuple[float, float]:
    """Time and loss as compression has them: gains multiply, losses grow faster than what is taken away."""
    resolution, early, middle, late = (float(point[name] or 0) for name in ("resolution", "early", "middle", "late"))
    depth = float(point["depth"] or 0)
    work = (
        resolution**2 * (early + 1.5 * middle + 0.5 * late) * (1 - 0.7 * depth) * (1 if point["kernel"] == 5 else 0.6)
    )
    time = {"float32": 1.0, "int8": 0.45, "int4": 1.2}[str(point["storage"])] * work + 0.05
    loss = 0.08 * (1 - resolution) ** 2 + 0.12 * (1 - early) ** 2 + 0.03 * (1 - middle) ** 2 + 0.01 * (1 - late)
    loss += 0.1 * depth**2 * (2 - middle) + (0.01 if point["kernel"] == 3 else 0)
    if "calibrator" in point:
        loss += (0.02 if point["calibrator"] == "minmax" else 0.004) * (2 if early < 0.5 else 1)
    if "block" in point:
        loss += 0.015 if point["block"] == 32 else 0.03
    return time, loss


def every_point(place: int = 0, point: Point | None = None) -> Iterator[Point]:
    point = point or {}
    if place == len(SPACE.choices):
        yield point
        return
    choice = SPACE.choices[place]
    ways: list[dict[str, Value]] = [dict(point)]
    if choice.asked(point):
        ways = [{**point, choice.name: value} for value in choice.values]
    for way in ways:
        yield from every_point(place + 1, way)


def hypervolume(points: list[tuple[float, float]]) -> float:
    """Area between the points and what the unmodified network takes at the most loss that the budget allows."""
    corner = figures(SPACE.gentlest())[0]
    area, above = 0.0, MOST_LOSS
    for time, loss in sorted(point for point in points if point[0] < corner and point[1] < MOST_LOSS):
        if loss < above:
            area += (corner - time) * (above - loss)
            above = loss
    return area


@cache
def reached(name: str) -> float:
    """Mean share of the true front's hypervolume."""
    best = hypervolume([figures(point) for point in every_point()])
    shares = []
    for seed in SEEDS:
        trials: tuple[Trial, ...] = ()
        while len(trials) < TRIALS:
            point = strategy(name).ask(SPACE, trials, seed)
            assert point is not None
            time, loss = figures(point)
            trials = (*trials, Trial(len(trials) + 1, point, (time, loss), max(0.0, loss / MOST_LOSS - 1)))
        shares.append(hypervolume([(trial.objectives[0], trial.objectives[1]) for trial in trials]) / best)
    return sum(shares) / len(shares)


def test_the_space_has_thousands_of_points_with_conditions():
    assert SPACE.size() == sum(1 for _ in every_point()) == 5760


@pytest.mark.parametrize(("name", "least"), [("greedy", 0.9), ("evolutionary", 0.75), ("bayesian", 0.8)])
def test_every_strategy_is_nearer_to_the_true_front_than_random_search(name, least):
    assert reached(name) > max(least, reached("random") + 0.1)
