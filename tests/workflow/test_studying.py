"""Workers of one study: they share what is tried, take over what was lost, and begin with what is known elsewhere."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.core.budget import Budget
from edgeopt.core.space import Choice, Point, Space, Trial
from edgeopt.core.study import Subject
from edgeopt.errors import LinkLostError
from edgeopt.selection.strategies import NAMES, strategy
from edgeopt.store.studies import StudyStore
from edgeopt.workflow.kinds.shared import Stopped
from edgeopt.workflow.studying import GRACE_SECONDS, MOST_ATTEMPTS, Study, warmed
from support.measurements import digest

SPACE = Space("s", (Choice("width", (1.0, 0.75, 0.5, 0.25)), Choice("bits", (None, 8, 4))), ())
SUBJECT = Subject("net", digest("net"), digest("data"), digest("space"), Budget())
RANDOM = strategy("random").ask


class Clock:
    """Seconds that pass when the test says so."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StudyStore]:
    with StudyStore(tmp_path / "ledger.sqlite") as opened:
        yield opened


def worker(store: StudyStore, owner: str, clock: Clock | None = None) -> Study:
    return Study(store, store.open(SUBJECT, now=0.0), clock or Clock(), owner)


def measured(trial: Trial) -> Trial:
    width, bits = float(trial.point["width"] or 1), trial.point["bits"]
    return replace(trial, objectives=(width * (1 if bits is None else 0.5), 0.01 * (1 - width)), excess=0.0)


def work(study: Study, ask: object = RANDOM, bound: int = 12) -> int:
    """Until nothing is left; how many it did."""
    done = 0
    while claim := study.next(ask, SPACE, seed=1, bound=bound):  # type: ignore[arg-type]
        with study.working(claim):
            study.finish(claim, measured(claim.trial))
        done += 1
    return done


def points(trials: Sequence[Trial]) -> list[Point]:
    return [trial.point for trial in trials]


@pytest.mark.parametrize("name", NAMES)
def test_workers_at_the_same_time_try_every_point_once_and_none_twice(store: StudyStore, name: str) -> None:
    workers = [worker(store, f"host{number}:1") for number in range(3)]
    threads = [threading.Thread(target=work, args=(one, strategy(name).ask)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = workers[0].trials()
    assert [trial.number for trial in trials] == list(range(1, 13))
    assert len({frozenset(point.items()) for point in points(trials)}) == SPACE.size() == 12


def test_the_bound_is_on_the_trials_of_all_together(store: StudyStore) -> None:
    one, other = worker(store, "a:1"), worker(store, "b:1")
    claim = one.next(RANDOM, SPACE, seed=0, bound=2)
    assert claim is not None
    assert other.next(RANDOM, SPACE, seed=0, bound=2) is not None
    assert other.next(RANDOM, SPACE, seed=0, bound=2) is None


def test_the_same_seed_and_ledger_give_the_same_trials(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        with StudyStore(tmp_path / name) as opened:
            study = worker(opened, f"{name}:1")
            work(study, strategy("evolutionary").ask, bound=9)
            found.append(study.trials())
    assert found[0] == found[1]


def test_a_trial_whose_worker_is_gone_is_begun_again_before_any_other(store: StudyStore) -> None:
    import socket

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    lost = worker(store, f"{socket.gethostname()}:{child.pid}").next(RANDOM, SPACE, seed=0, bound=12)
    assert lost is not None
    again = worker(store, "b:1").next(RANDOM, SPACE, seed=9, bound=12)
    assert again is not None
    assert (again.trial, again.attempts) == (lost.trial, 2)


def test_a_host_that_falls_silent_loses_its_trial_and_one_that_beats_does_not(store: StudyStore) -> None:
    clock = Clock()
    far, near = worker(store, "far:1", clock), worker(store, "near:1", clock)
    first = far.next(RANDOM, SPACE, seed=0, bound=12)
    assert first is not None
    clock.seconds += GRACE_SECONDS - 1
    second = near.next(RANDOM, SPACE, seed=0, bound=12)
    assert second is not None
    assert second.trial.number == 2
    clock.seconds += 2
    third = near.next(RANDOM, SPACE, seed=0, bound=12)
    assert third is not None
    assert third.trial == first.trial


def test_a_trial_that_is_interrupted_is_given_back_at_once(store: StudyStore) -> None:
    study = worker(store, "a:1")
    claim = study.next(RANDOM, SPACE, seed=0, bound=12)
    assert claim is not None
    with pytest.raises(KeyboardInterrupt), study.working(claim):
        raise KeyboardInterrupt
    again = study.next(RANDOM, SPACE, seed=0, bound=12)
    assert again is not None
    assert again.trial == claim.trial


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), Stopped(), LinkLostError("the link is cut")])
def test_what_is_no_fault_of_a_trial_costs_it_no_attempt(store: StudyStore, error: BaseException) -> None:
    study = worker(store, "a:1")
    for _ in range(MOST_ATTEMPTS + 1):
        claim = study.next(RANDOM, SPACE, seed=0, bound=12)
        assert claim is not None
        assert (claim.trial.number, claim.attempts) == (1, 1)
        with pytest.raises(type(error)), study.working(claim):
            raise error
    assert not study.trials()


def test_a_trial_that_breaks_every_worker_is_given_up_with_the_cause(store: StudyStore) -> None:
    study, numbers = worker(store, "a:1"), []
    for _ in range(MOST_ATTEMPTS + 1):
        claim = study.next(RANDOM, SPACE, seed=0, bound=12)
        assert claim is not None
        numbers.append(claim.trial.number)
        with pytest.raises(IndexError), study.working(claim):
            raise IndexError("no such layer")
    assert numbers == [1, 1, 1, 2]
    assert [one.reason for one in study.trials()] == ["IndexError: no such layer; given up after 3 attempts"]


def test_a_trial_that_a_board_spoiled_is_left_to_others_and_to_later_calls_a_bounded_number_of_times(
    store: StudyStore,
) -> None:
    for attempt in range(1, MOST_ATTEMPTS + 1):
        study = worker(store, "a:1")  # each is a call of the command
        claim = study.next(RANDOM, SPACE, seed=0, bound=12)
        assert claim is not None
        assert (claim.trial.number, claim.attempts) == (1, attempt)
        study.leave(claim, replace(claim.trial, reason="the board spoiled the launch (throttled)"))
        assert study.next(RANDOM, SPACE, seed=0, bound=1) is None  # not by the same worker once more
    assert worker(store, "a:1").next(RANDOM, SPACE, seed=0, bound=1) is None
    (given_up,) = worker(store, "b:1").trials()
    assert given_up.reason == "the board spoiled the launch (throttled); given up after 3 attempts"
    assert not given_up.measured


def test_a_trial_that_takes_down_every_worker_is_given_up_with_its_reason(store: StudyStore) -> None:
    clock = Clock()
    study = worker(store, "a:1", clock)
    numbers = []
    for _ in range(MOST_ATTEMPTS + 1):
        claim = study.next(RANDOM, SPACE, seed=0, bound=12)
        assert claim is not None
        numbers.append(claim.trial.number)
        clock.seconds += GRACE_SECONDS + 1
    assert numbers == [1, 1, 1, 2]
    (given_up,) = study.trials()
    assert not given_up.measured
    assert "took down its worker 3 times" in given_up.reason


def test_a_new_kind_of_board_begins_with_what_was_best_elsewhere(store: StudyStore) -> None:
    best: Point = {"width": 0.25, "bits": 4}
    second: Point = {"width": 0.5, "bits": 4}
    elsewhere = [
        Trial(1, {"width": 1.0, "bits": None}, (5.0, 0.0), 0.0),
        Trial(2, best, (1.0, 0.0), 0.0),
        Trial(3, second, (2.0, 0.0), 0.0),
        Trial(4, {"width": 0.75, "bits": 8}, (0.1, 0.0), 3.0),  # over the budget there
        Trial(5, {"width": 9.0, "bits": 8}, (0.5, 0.0), 0.0),  # no point of this space any more
    ]
    ask = warmed(strategy("greedy"), [elsewhere], 3)
    study = worker(store, "a:1")
    asked = []
    for _ in range(3):
        claim = study.next(ask, SPACE, seed=0, bound=12)
        assert claim is not None
        study.finish(claim, measured(claim.trial))
        asked.append(claim.trial.point)
    assert asked == [best, second, SPACE.gentlest()]
