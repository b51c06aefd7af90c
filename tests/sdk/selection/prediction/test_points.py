"""Points of a space put in order by trials: what helped before or on another board is tried first."""

from __future__ import annotations

import math
import random

from edgeopt.core.space import Choice, Point, Space, Trial
from edgeopt.selection.prediction.points import LEAST_TRIALS, expects, most_promising
from edgeopt.selection.strategies import strategy
from edgeopt.workflow.studying import warmed

SPACE = Space(
    "s",
    (*(Choice(name, (1.0, 0.75, 0.5, 0.25)) for name in ("early", "middle", "late")), Choice("bits", (32, 8, 4))),
    (),
)
MOST_LOSS = 0.06


def found(point: Point, number: int, board: float = 1.0) -> Trial:
    """8 bits pay and 4 do not; what is taken away early costs most accuracy."""
    early, middle, late = (float(point[name] or 0) for name in ("early", "middle", "late"))
    taken = board * (early + 2 * middle + late) * {32: 1.0, 8: 0.4, 4: 1.5}[int(point["bits"] or 0)]
    lost = 0.2 * (1 - early) ** 2 + 0.05 * (1 - middle) ** 2 + 0.02 * (1 - late) ** 2
    return Trial(number, point, (taken, lost), max(0.0, lost / MOST_LOSS - 1))


def some(count: int, board: float = 1.0, seed: int = 0) -> tuple[Trial, ...]:
    trials: tuple[Trial, ...] = ()
    for number in range(1, count + 1):
        point = strategy("random").ask(SPACE, trials, seed)
        assert point is not None
        trials = (*trials, found(point, number, board))
    return trials


def point(early: float, bits: int) -> Point:
    return {"early": early, "middle": 0.75, "late": 0.75, "bits": bits}


def test_what_helped_in_other_points_is_expected_to_help_in_a_new_one() -> None:
    proposals = [point(1.0, 4), point(1.0, 8), point(1.0, 32)]
    assert most_promising(proposals, some(20)) == proposals[1]
    assert most_promising(proposals[::-1], some(20)) == proposals[1]


def test_another_kind_of_board_teaches_though_everything_takes_longer_there() -> None:
    slow = some(20, board=50.0, seed=3)
    assert expects((), [slow])
    assert most_promising([point(1.0, 4), point(1.0, 8)], some(2, seed=9), [slow]) == point(1.0, 8)


def test_points_that_miss_the_budget_come_behind_those_that_hold_it() -> None:
    assert most_promising([point(0.25, 8), point(1.0, 8)], some(30)) == point(1.0, 8)


def test_where_too_little_is_known_the_strategy_has_its_way() -> None:
    failed = tuple(Trial(number, point(1.0, 4), reason="crashed") for number in range(20))
    for trials in ((), some(LEAST_TRIALS - 1), failed):
        assert not expects(trials)
        assert most_promising([point(1.0, 4), point(1.0, 8)], trials) == point(1.0, 4)


def reached(ask: object, seed: int, count: int = 14) -> float:
    """The best within the budget after some trials."""
    trials: tuple[Trial, ...] = ()
    for number in range(1, count + 1):
        trials = (*trials, found(ask(SPACE, trials, seed), number))  # type: ignore[operator]
    return min((trial.objectives[0] for trial in trials if trial.excess == 0), default=math.inf)


def test_a_search_that_learns_is_nearer_to_the_best_after_few_trials() -> None:
    plain, learning = strategy("random").ask, warmed(strategy("random"), (), 0)
    seeds = range(12)
    ahead = [reached(plain, seed) / reached(learning, seed) for seed in seeds]
    assert math.exp(sum(map(math.log, ahead)) / len(ahead)) > 1.1
    order = random.Random(0).sample(range(12), 3)
    assert [reached(learning, seed) for seed in order] == [reached(learning, seed) for seed in order]
