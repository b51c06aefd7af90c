"""The timed loops on a clock that only the model moves: every rule to the nanosecond, on any machine."""

import gc
from types import SimpleNamespace

import pytest

from edgeopt.core.plan import PACED, QUICK, SUSTAINED
from edgeopt.documents import plain
from edgeopt_runner import measure

MS = 1_000_000
SECOND = 1000 * MS


class Bench:
    """A clock and models that take as long as they are told; time passes in them and in sleep alone."""

    def __init__(self, monkeypatch):
        self.now = 5 * SECOND
        self.runs = []
        self.gc_states = set()
        monkeypatch.setattr(measure, "clock_ns", lambda: self.now)
        clock = SimpleNamespace(
            sleep=lambda seconds: self.advance(seconds * SECOND),
            time=lambda: self.now / SECOND,
            process_time=lambda: 0.0,
        )
        monkeypatch.setattr(measure, "time", clock)

    def advance(self, nanoseconds):
        self.now += max(1, round(nanoseconds))

    def calls(self, duration_at, count=4):
        """Models whose duration depends on how many runs there were, and on the time since the start."""
        start = self.now

        def call(number):
            self.runs.append(number)
            self.gc_states.add(gc.isenabled())
            self.advance(duration_at(len(self.runs) - 1, (self.now - start) / SECOND))

        return [lambda number=number: call(number) for number in range(count)]


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def plan(base, **changes):
    return {**plain(base), **changes}


def test_warm_up_ends_when_two_blocks_agree(bench):
    found = measure.warm_up(bench.calls(lambda n, t: 20 * MS * (1 - min(t, 0.5))), plan(QUICK))
    assert not found.capped
    assert found.median_ns == 10 * MS
    assert found.runs == len(bench.runs)
    assert 0.5 * SECOND < bench.now - 5 * SECOND < 1.0 * SECOND


def test_warm_up_has_its_least_time_and_runs(bench):
    assert measure.warm_up(bench.calls(lambda n, t: 10 * MS), plan(QUICK)).runs == 30  # 0.3 s
    slow = measure.warm_up(bench.calls(lambda n, t: SECOND), plan(QUICK))
    assert slow.runs >= measure.MIN_WARMUP_RUNS


def test_warm_up_of_a_model_that_never_settles_is_capped(bench):
    found = measure.warm_up(bench.calls(lambda n, t: 10 * MS * (1 + 5 * t)), plan(QUICK, max_warmup_seconds=2.0))
    assert found.capped
    assert 2.0 * SECOND <= bench.now - 5 * SECOND < 2.2 * SECOND


def test_a_model_slower_than_the_cap_runs_once_for_warm_up(bench):
    found = measure.warm_up(bench.calls(lambda n, t: 30 * SECOND), plan(QUICK))
    assert (found.runs, found.capped) == (1, True)


def test_a_steady_model_is_measured_for_the_least_time_and_sample(bench):
    found = measure.measure(bench.calls(lambda n, t: 10 * MS), plan(QUICK), 10 * MS)
    assert found.flags == []
    assert found.latency["per_sample"] == 1
    assert set(found.latency["samples_ns"]) == {10 * MS}
    assert len(found.latency["samples_ns"]) == len(bench.runs) >= 64
    assert len(found.latency["windows_ns"]) == 3
    assert found.evidence["monotonic_seconds"] == pytest.approx(found.evidence["wall_seconds"])


def test_inputs_take_turns_and_the_collector_is_off_only_while_timing(bench):
    measure.measure(bench.calls(lambda n, t: 10 * MS), plan(QUICK), 10 * MS)
    assert bench.runs[:8] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert bench.gc_states == {False}
    assert gc.isenabled()


def test_the_collector_comes_back_after_a_model_that_fails(bench):
    def broken(n, t):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        measure.measure(bench.calls(broken), plan(QUICK), 10 * MS)
    assert gc.isenabled()


def test_a_model_that_keeps_drifting_is_unstable_after_ten_windows(bench):
    found = measure.measure(bench.calls(lambda n, t: 10 * MS * (1 + t)), plan(QUICK), 10 * MS)
    assert found.flags == ["unstable"]
    assert len(found.latency["windows_ns"]) == 10


def test_a_model_that_settles_late_is_measured_until_it_has(bench):
    found = measure.measure(bench.calls(lambda n, t: 20 * MS * (2 - min(t, 1.5))), plan(QUICK), 10 * MS)
    assert found.flags == []
    assert found.latency["windows_ns"][0] > 30 * MS
    assert found.latency["windows_ns"][-3:] == [10 * MS] * 3


def test_a_slow_model_ends_at_the_longest_time_with_no_percentile_it_cannot_support(bench):
    found = measure.measure(bench.calls(lambda n, t: SECOND), plan(QUICK), SECOND)
    assert len(found.latency["samples_ns"]) == 15
    assert found.latency["p90_ns"] is None
    assert found.flags == []


def test_a_model_slower_than_the_longest_time_has_one_sample(bench):
    found = measure.measure(bench.calls(lambda n, t: 40 * SECOND), plan(QUICK), 40 * SECOND)
    assert found.latency["samples_ns"] == [40 * SECOND]
    assert found.flags == ["unstable"]


def test_a_very_fast_model_is_timed_in_batches_and_reported_per_inference(bench):
    found = measure.measure(bench.calls(lambda n, t: 20_000), plan(QUICK), 20_000)
    batch = found.latency["per_sample"]
    assert batch > 1
    assert set(found.latency["samples_ns"]) == {20_000}
    assert len(bench.runs) == batch * len(found.latency["samples_ns"])
    assert len(found.latency["samples_ns"]) <= 20_000


def test_no_outlier_is_deleted(bench):
    found = measure.measure(bench.calls(lambda n, t: 50 * MS if n == 40 else 10 * MS), plan(QUICK), 10 * MS)
    assert found.latency["max_ns"] == 50 * MS
    assert found.latency["outlier_share"] == 1 / len(found.latency["samples_ns"])


def test_sustained_lasts_its_time_and_shows_the_board_slowing_down(bench):
    sustained = plan(SUSTAINED, fixed_seconds=300.0, max_seconds=300.0)
    found = measure.measure(bench.calls(lambda n, t: 100 * MS if t < 120 else 150 * MS), sustained, 100 * MS)
    assert 300 <= found.evidence["monotonic_seconds"] < 301
    assert found.evidence["minute_medians_ns"] == [100 * MS, 100 * MS, 150 * MS, 150 * MS, 150 * MS]
    assert found.evidence["last_over_first"] == 1.5
    assert found.flags == []


def test_paced_frames_arrive_on_an_absolute_grid(bench):
    started = []
    calls = bench.calls(lambda n, t: started.append(t) or (5 + n % 7) * MS)
    found = measure.measure(calls, plan(PACED, target_fps=20.0), 5 * MS)
    grid = [number * 0.05 for number in range(len(started))]
    assert started == pytest.approx(grid, abs=1e-6)  # no drift, whatever each frame took
    assert found.evidence["deadline_misses"] == 0
    assert found.evidence["frames"] == len(started) >= 200
    assert found.latency["max_ns"] == 11 * MS


def test_paced_counts_frames_that_were_late_or_came_while_the_model_was_busy(bench):
    calls = bench.calls(lambda n, t: 120 * MS if n == 3 else 10 * MS)  # two and a half frames of 50 ms
    found = measure.measure(calls, plan(PACED, target_fps=20.0), 10 * MS)
    assert found.evidence["deadline_misses"] == 2
    assert found.evidence["frames"] == len(bench.runs) + 2


def test_a_model_too_slow_for_its_pace_misses_almost_every_frame(bench):
    found = measure.measure(bench.calls(lambda n, t: 120 * MS), plan(PACED, target_fps=20.0), 120 * MS)
    assert found.evidence["deadline_misses"] / found.evidence["frames"] == pytest.approx(2 / 3, abs=0.02)


def test_timed_runs_are_as_many_as_asked(bench):
    assert measure.timed_runs(bench.calls(lambda n, t: (n + 1) * MS), 3) == [1 * MS, 2 * MS, 3 * MS]
