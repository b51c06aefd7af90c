"""Who goes to the finals, in which order they run, and what spoils them."""

from __future__ import annotations

from dataclasses import replace

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.plan import QUICK
from edgeopt.core.selection import Candidate
from edgeopt.selection.schedule import drift, finalists, racing, survivors, turn
from support.measurements import candidate, failed


def quick(name: str, median_ms: float, **options: object) -> Candidate:
    return candidate(name, median_ms, plan=QUICK, launches=1, samples=100, windows=3, noise=0.002, **options)  # type: ignore[arg-type]


def test_finalists_are_those_that_may_still_win_the_best_first_with_the_original() -> None:
    table = [
        quick("original", 3.0),
        quick("original", 2.0, threads=2),
        quick("a", 1.0),
        quick("b", 1.02),
        quick("c", 1.5),
    ]
    assert finalists(table, Budget(), 0.02) == ("a / 1 thread", "b / 1 thread", "original / 2 threads")


def test_a_noisy_device_leaves_more_in_the_race_and_the_limit_holds() -> None:
    table = [quick("original", 2.0), *(quick(f"v{i}", 1.0 + i / 20) for i in range(5))]
    assert finalists(table, Budget(), 0.01) == ("v0 / 1 thread", "original / 1 thread")
    assert finalists(table, Budget(), 0.04, limit=5) == ("v0 / 1 thread", "v1 / 1 thread", "original / 1 thread")
    assert len(finalists(table, Budget(), 0.5, limit=4)) == 4


def test_what_failed_or_loses_too_much_is_not_measured_again() -> None:
    table = [quick("original", 2.0), quick("wrong", 0.5, correct=700), failed("bad", "crash", "")]
    assert finalists(table, Budget(), 0.02) == ("original / 1 thread",)


def test_a_latency_limit_that_longer_measuring_may_meet_keeps_a_candidate_in() -> None:
    table = [quick("original", 2.0), quick("near", 1.0), quick("far", 1.5)]
    by_p99 = Budget(max_latency=LatencyLimit("p99", 5_000_000))
    assert "near / 1 thread" in finalists(table, by_p99, 0.02)
    beyond = Budget(max_latency=LatencyLimit("p90", 1_200_000))
    assert finalists(table, beyond, 0.02) == ("near / 1 thread", "original / 1 thread")


def test_the_safe_candidate_is_not_crowded_out_by_faster_doubtful_ones() -> None:
    table = [quick("original", 3.0), quick("safe", 1.1)]
    doubtful = [candidate(f"d{i}", 1.09, plan=QUICK, launches=2, samples=20, noise=0.01, seed=i) for i in range(3)]
    limit = Budget(max_latency=LatencyLimit("p90", 1_150_000))
    chosen = finalists([*table, *doubtful], limit, 0.02)
    assert "safe / 1 thread" in chosen
    assert len(chosen) == 3


def test_where_nothing_works_there_are_no_finalists() -> None:
    assert finalists([failed("original", "oom", ""), failed("a", "crash", "")], Budget(), 0.02) == ()


def test_launches_are_interleaved_so_that_a_drift_hits_all_alike() -> None:
    assert "".join("".join(turn(tuple("ABC"), number)) for number in range(3)) == "ABCCBAABC"
    assert turn((), 0) == ()


def test_survivors_are_the_best_third_and_never_fewer_than_finalists() -> None:
    assert [survivors(count) for count in (1, 9, 10, 40)] == [3, 3, 4, 14]


def test_the_race_is_left_by_what_is_certainly_slower_and_by_nothing_else() -> None:
    steady = {"launches": 5, "samples": 30, "windows": 1, "noise": 0.002}
    table = [candidate("original", 3.0, **steady), candidate("a", 1.0, **steady), candidate("b", 1.0, seed=7, **steady)]
    assert racing(table, Budget()) == ("a / 1 thread", "b / 1 thread")
    assert len(racing([replace(one, measurements=one.measurements[:2]) for one in table], Budget())) == 3


def test_only_what_holds_the_budget_throws_others_out_of_the_race() -> None:
    steady = {"launches": 5, "samples": 30, "windows": 1, "noise": 0.002}
    table = [candidate("original", 3.0, **steady), candidate("wrong", 1.0, correct=700, **steady)]
    assert len(racing(table, Budget(max_drop=0.01))) == 2
    assert racing(table, Budget(max_drop=None)) == ("wrong / 1 thread",)


def test_where_time_is_not_the_objective_nobody_leaves_for_being_slow() -> None:
    steady = {"launches": 5, "samples": 30, "windows": 1, "noise": 0.002}
    table = [candidate("original", 3.0, **steady), candidate("a", 1.0, **steady)]
    assert len(racing(table, Budget(objective="memory"))) == 2


def test_a_baseline_that_moved_more_than_twice_the_noise_spoils_the_block() -> None:
    assert drift(100.0, 110.0, 0.04)
    assert drift(110.0, 100.0, 0.04)
    assert not drift(100.0, 107.0, 0.04)
    assert not drift(100.0, 101.5, 0.0)
    assert drift(100.0, 103.0, 0.0)
