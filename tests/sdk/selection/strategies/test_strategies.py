from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections import Counter

import pytest

from edgeopt.core.space import Choice, Space, Trial
from edgeopt.errors import UsageError
from edgeopt.selection.strategies import NAMES, strategy
from edgeopt.selection.strategies._base import Standing, ranked
from edgeopt.testing.strategies import CHECKS, CONDITIONAL

GRID = Space("grid", (Choice("a", (0, 1, 2, 3)), Choice("b", (0, 1, 2, 3))), ())


def tried(*told):
    return [Trial(place + 1, {"a": a, "b": b}, figures, excess) for place, (a, b, figures, excess) in enumerate(told)]


def asked(name, trials, space=GRID, seeds=range(1)):
    return [dict(strategy(name).ask(space, trials, seed)) for seed in seeds]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_strategies_conform(check, name):
    check(strategy(name))


class Forgetful:
    """A strategy that repeats itself and never ends."""

    name = "forgetful"

    def ask(self, space, trials, seed):
        return space.gentlest()


class Wild:
    """A strategy that asks for calibrators where nothing is calibrated."""

    name = "wild"

    def ask(self, space, trials, seed):
        return {**space.gentlest(), "calibrator": "mse"}


class Hasty:
    """A strategy that ends before everything was tried."""

    name = "hasty"

    def ask(self, space, trials, seed):
        return None if trials else space.gentlest()


@pytest.mark.parametrize(
    ("broken", "reason"), [(Forgetful, "a second time"), (Wild, "no point of the space"), (Hasty, "None after 1 of 20")]
)
def test_the_suite_finds_what_a_strategy_does_wrong(broken, reason):
    found = []
    for check in CHECKS:
        try:
            check(broken())
        except AssertionError as error:
            found.append(str(error))
    assert any(reason in one for one in found)


def test_an_unknown_strategy_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"no search strategy 'greddy'. Did you mean 'greedy'\? There are random, "):
        strategy("greddy")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
def test_a_search_begins_near_the_original_so_that_one_that_ends_early_has_something_that_works(name):
    assert strategy(name).ask(CONDITIONAL, (), 5) == CONDITIONAL.gentlest()


def test_random_search_takes_every_untried_point_alike_also_where_conditions_make_some_branches_larger():
    known = [Trial(1, CONDITIONAL.gentlest(), (1.0,), 0.0)]
    counts = Counter(str(point) for point in asked("random", known, CONDITIONAL, range(1900)))
    assert len(counts) == CONDITIONAL.size() - 1 == 19
    assert min(counts.values()) > 60  # 100 expected, 9.7 of standard deviation
    assert max(counts.values()) < 140


def test_greedy_looks_at_all_neighbours_and_goes_on_from_the_best_within_the_budget():
    start = (0, 0, (10.0, 0.0), 0.0)
    assert asked("greedy", tried(start)) == [{"a": 1, "b": 0}]
    assert asked("greedy", tried(start, (1, 0, (9.0, 0.1), 0.0))) == [{"a": 0, "b": 1}]
    slow = tried(start, (1, 0, (9.0, 0.1), 0.0), (0, 1, (8.0, 0.1), 0.0))
    assert asked("greedy", slow) == [{"a": 1, "b": 1}]  # a neighbour of (0, 1), the faster
    over = tried(start, (1, 0, (9.0, 0.1), 0.0), (0, 1, (2.0, 0.9), 0.5))
    assert asked("greedy", over) == [{"a": 2, "b": 0}]  # (0, 1) is over the budget


def test_greedy_goes_towards_the_budget_where_the_original_is_over_it():
    trials = tried((0, 0, (10.0, 0.0), 2.0), (1, 0, (9.0, 0.1), 3.0), (0, 1, (11.0, 0.1), 1.0))
    assert asked("greedy", trials) == [{"a": 1, "b": 1}]


def test_greedy_goes_on_along_the_front_where_nothing_improves():
    trials = tried((0, 0, (1.0, 0.5), 0.0), (1, 0, (3.0, 0.9), 0.0), (0, 1, (2.0, 0.1), 0.0), (1, 1, (4.0, 1.0), 0.0))
    assert asked("greedy", trials) == [{"a": 0, "b": 2}]  # beside (0, 1), which loses less; (1, 0) is dominated


def test_evolution_stays_near_what_was_good():
    points = [(a, b) for a in range(4) for b in range(4) if (a, b) not in {(3, 3), (0, 3), (3, 2), (2, 3)}]
    trials = tried(*((a, b, (20.0 - a - b, 1.0), 0.0) for a, b in points))
    counts = Counter((point["a"], point["b"]) for point in asked("evolutionary", trials, seeds=range(200)))
    assert counts[3, 2] + counts[2, 3] > 100  # beside (2, 2) and (3, 1), the best; of four that are left


def test_bayesian_search_leaves_where_it_was_bad():
    space = Space("line", (Choice("width", tuple(range(40))), Choice("kind", ("good", "bad"))), ())
    trials = [
        Trial(place + 1, {"width": width, "kind": kind}, (float(width), 0.0), 0.0 if kind == "good" else 3.0)
        for place, (width, kind) in enumerate((width, kind) for width in range(0, 40, 3) for kind in ("good", "bad"))
    ]
    points = asked("bayesian", trials, space, range(20))
    assert sum(point["kind"] == "good" for point in points) >= 15
    assert sum(point["width"] < 15 for point in points) >= 15


def test_bayesian_search_says_nothing_and_leaves_the_log_as_it_was(capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trials = tried(*((a, b, (1.0 + a, 2.0 + b), 0.0) for a in range(3) for b in range(4)))
        assert asked("bayesian", trials)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before
    assert logging.getLogger("optuna").level == before


def test_bayesian_search_without_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"needs optuna.* pip install 'edgeopt\[search\]'"):
        strategy("bayesian").ask(GRID, (), 0)


def test_strategies_are_there_without_importing_optuna():
    code = "import sys, edgeopt.selection.strategies, edgeopt.testing.strategies; sys.exit('optuna' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_holds_the_budget_ranks_before_what_does_not_and_what_did_not_run_is_last():
    trials = tried(
        (0, 0, (), float("inf")),
        (0, 1, (1.0, 1.0), 0.5),
        (0, 2, (1.0, 1.0), 0.2),
        (1, 0, (5.0, 5.0), 0.0),
        (1, 1, (3.0, 3.0), 0.0),
        (1, 2, (2.0, 4.0), 0.0),
        (1, 3, (4.0, 2.0), 0.0),
        (2, 0, (2.9, 3.1), 0.0),
    )
    order = [(one.point["a"], one.point["b"]) for one in ranked([Standing.of(trial) for trial in trials])]
    assert set(order[:2]) == {(1, 2), (1, 3)}  # the ends of the front are the least crowded
    assert set(order[2:4]) == {(1, 1), (2, 0)}
    assert order[4:] == [(1, 0), (0, 2), (0, 1), (0, 0)]
