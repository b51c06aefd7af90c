"""Who goes to the finals, in which order they run, and what spoils them."""

from __future__ import annotations

import pytest

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.plan import QUICK
from edgeopt.core.selection import Candidate
from edgeopt.selection.schedule import drift, finalists, interleave
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


@pytest.mark.parametrize(
    ("keys", "launches", "order"),
    [("AB", 2, "ABBA"), ("ABC", 3, "ABCCBAABC"), ("A", 3, "AAA"), ("", 3, ""), ("AB", 0, "")],
)
def test_launches_are_interleaved_so_that_a_drift_hits_all_alike(keys: str, launches: int, order: str) -> None:
    assert "".join(interleave(tuple(keys), launches)) == order


def test_a_baseline_that_moved_more_than_twice_the_noise_spoils_the_block() -> None:
    assert drift(100.0, 110.0, 0.04)
    assert drift(110.0, 100.0, 0.04)
    assert not drift(100.0, 107.0, 0.04)
    assert not drift(100.0, 101.5, 0.0)
    assert drift(100.0, 103.0, 0.0)
