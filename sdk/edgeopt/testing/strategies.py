"""Conformance suite for authors of search strategies: what every strategy must do, whatever the trials gave.

In a test of your package::

    import pytest
    from edgeopt.testing.strategies import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_strategy_conforms(check):
        check(MyStrategy())
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

from edgeopt.core.space import Choice, Point, Space, Trial
from edgeopt.selection.strategies._base import Strategy

Judge = Callable[[Point], tuple[tuple[float, ...], float]]
"""Objectives and excess of a point."""

CONDITIONAL = Space(
    "conditional",
    (
        Choice("storage", ("float32", "int8")),
        Choice("calibrator", ("minmax", "entropy", "mse"), when={"storage": ("int8",)}),
        Choice("width", (1.0, 0.5)),
        Choice("depth", (None, 2)),
        Choice("pruned", (True, False), when={"width": (0.5,), "calibrator": ("entropy", "mse")}),
    ),
    (),
)
"""20 points; a condition on a condition."""

_LARGE = Space("large", tuple(Choice(f"c{place}", tuple(range(10))) for place in range(12)), ())


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _figures(point: Point) -> tuple[tuple[float, ...], float]:
    """Two objectives that pull apart, some points over the budget."""
    cost = (0.5 if point["storage"] == "int8" else 1.0) * float(point["width"] or 0) * (0.8 if point["depth"] else 1.0)
    loss = 1.0 - cost if point.get("calibrator") != "mse" else 0.9 - cost
    return (cost, loss), max(0.0, loss - 0.7)


def _ended(strategy: Strategy, space: Space, judge: Judge, seed: int = 0) -> tuple[Trial, ...]:
    """Trials until the strategy has no more points; each is checked."""
    trials: tuple[Trial, ...] = ()
    while len(trials) <= space.size():
        point = strategy.ask(space, trials, seed)
        if point is None:
            _require(len(trials) == space.size(), f"ask() gave None after {len(trials)} of {space.size()} points")
            return trials
        _require(point in space, f"ask() gave {dict(point)}, which is no point of the space")
        _require(point not in [trial.point for trial in trials], f"ask() gave {dict(point)} a second time")
        trials = (*trials, Trial(len(trials) + 1, dict(point), *judge(point)))
    raise AssertionError(f"ask() still gives points after all {space.size()}")


def check_declares_itself(strategy: Strategy) -> None:
    """It has a name of one lower-case word."""
    name = strategy.name
    _require(isinstance(name, str) and name.isidentifier() and name.islower(), f"name is {name!r}, must be one word")


def check_tries_every_point_once(strategy: Strategy) -> None:
    """Points are of the space, conditions kept, none twice, and `None` comes when all were tried, for any seed."""
    for seed in (0, 7):
        trials = _ended(strategy, CONDITIONAL, _figures, seed)
        _require(strategy.ask(CONDITIONAL, trials, seed) is None, "ask() gave a point after it had given None")


def check_is_a_function_of_its_arguments(strategy: Strategy) -> None:
    """The same trials and seed give the same point, whatever was asked in between; arguments are left as they were."""
    trials = _ended(strategy, CONDITIONAL, _figures)[:12]
    before = copy.deepcopy(trials)
    for count in (0, 1, 6, 12):
        first = strategy.ask(CONDITIONAL, trials[:count], 3)
        strategy.ask(CONDITIONAL, trials[:5], 4)
        again = strategy.ask(copy.deepcopy(CONDITIONAL), list(trials[:count]), 3)
        _require(first == again, f"after the same {count} trials ask() gave {first}, then {again}")
    _require(trials == before, "ask() changed the trials")


def check_survives_trials_that_gave_nothing(strategy: Strategy) -> None:
    """Trials without objectives, all of them or some, are tried once and passed over."""
    _ended(strategy, CONDITIONAL, lambda _: ((), math.inf))
    _ended(strategy, CONDITIONAL, lambda point: ((), math.inf) if point["depth"] else _figures(point))
    gentlest = CONDITIONAL.gentlest()
    _ended(strategy, CONDITIONAL, lambda point: ((), math.inf) if point == gentlest else _figures(point))


def check_survives_equal_figures(strategy: Strategy) -> None:
    """Where every point is as good as any other, all are tried nevertheless."""
    _ended(strategy, CONDITIONAL, lambda _: ((1.0, 0.0), 0.0))
    _ended(strategy, CONDITIONAL, lambda _: ((1.0, 0.0), 2.0))


def check_survives_figures_that_are_no_numbers(strategy: Strategy) -> None:
    """NaN and infinity, as objectives or as excess, are taken for a trial that gave nothing."""
    for bad in (math.nan, math.inf):
        _ended(strategy, CONDITIONAL, lambda point, bad=bad: (_figures(point)[0], bad if point["depth"] else 0.0))  # type: ignore[misc]
        _ended(strategy, CONDITIONAL, lambda point, bad=bad: ((bad, 1.0) if point["depth"] else (1.0, 1.0), 0.0))  # type: ignore[misc]


def check_takes_any_number_of_objectives(strategy: Strategy) -> None:
    """One and three objectives do as well as two."""
    _ended(strategy, CONDITIONAL, lambda point: (_figures(point)[0][:1], 0.0))
    _ended(strategy, CONDITIONAL, lambda point: ((*_figures(point)[0], 1.0), 0.0))


def check_takes_a_single_point(strategy: Strategy) -> None:
    """A space of one choice of one value has one trial."""
    one = Space("one", (Choice("width", (1.0,)),), ())
    trials = _ended(strategy, one, lambda _: ((1.0, 0.0), 0.0))
    _require([dict(trial.point) for trial in trials] == [{"width": 1.0}], f"its points are {trials}")


def check_goes_on_from_any_trials(strategy: Strategy) -> None:
    """Trials that it did not ask for, twice the same one, and points that the space no longer has, are no obstacle."""
    points = [trial.point for trial in _ended(strategy, CONDITIONAL, _figures)][::-1]
    foreign: list[Point] = [{"width": 3.0}, {**points[0], "kernel": 3}, *points[:11], points[2]]
    figures = [_figures(point) if point in CONDITIONAL else ((0.0, 0.0), 0.0) for point in foreign]
    trials = [Trial(place, point, *figure) for place, (point, figure) in enumerate(zip(foreign, figures, strict=True))]
    for _ in points[11:]:
        point = strategy.ask(CONDITIONAL, trials, 0)
        _require(point in points and point not in [one.point for one in trials], f"ask() gave {point}")
        trials.append(Trial(len(trials), point or {}, *_figures(point or {})))
    _require(strategy.ask(CONDITIONAL, trials, 0) is None, "ask() gave a point after all were tried")


def check_takes_large_spaces(strategy: Strategy) -> None:
    """A million million points are not listed: asking takes neither the time nor the memory."""
    trials: tuple[Trial, ...] = ()
    for number in range(1, 13):
        point = strategy.ask(_LARGE, trials, 0)
        _require(point is not None and point in _LARGE, f"ask() gave {point}")
        cost = sum(float(value or 0) for value in (point or {}).values())
        trials = (*trials, Trial(number, point or {}, (100 - cost, cost), 0.0))


CHECKS: tuple[Callable[[Strategy], None], ...] = (
    check_declares_itself,
    check_tries_every_point_once,
    check_is_a_function_of_its_arguments,
    check_survives_trials_that_gave_nothing,
    check_survives_equal_figures,
    check_survives_figures_that_are_no_numbers,
    check_takes_any_number_of_objectives,
    check_takes_a_single_point,
    check_goes_on_from_any_trials,
    check_takes_large_spaces,
)
"""Every check, in order; each raises AssertionError with what the strategy does wrong."""
