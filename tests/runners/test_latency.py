"""Statistics and stopping rules, against NumPy and against cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.plan import FULL, QUICK, STANDARD, SUSTAINED
from edgeopt.documents import plain
from edgeopt_runner import latency
from edgeopt_runner.latency import StoppingRule, Window

MS = 1_000_000

durations = st.lists(st.integers(1, 10**12), min_size=1, max_size=200)


@given(durations)
def test_median_is_numpys(values):
    assert latency.median(values) == pytest.approx(np.median(values))


@given(durations, st.sampled_from([1, 50, 90, 95, 99, 100]))
def test_percentile_is_a_sample_that_enough_samples_do_not_exceed(values, percent):
    found = latency.percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100
    assert sum(value < found for value in values) < len(values) * percent / 100


@pytest.mark.parametrize("function", [latency.median, lambda values: latency.percentile(values, 90)])
def test_no_values_are_refused(function):
    with pytest.raises(ValueError, match="no values"):
        function([])


@pytest.mark.parametrize(
    ("count", "supported"),
    [
        (63, []),
        (64, ["p90_ns"]),
        (129, ["p90_ns"]),
        (130, ["p90_ns", "p95_ns"]),
        (661, ["p90_ns", "p95_ns"]),
        (662, ["p90_ns", "p95_ns", "p99_ns"]),
    ],
)
def test_percentiles_only_where_the_sample_supports_them(count, supported):
    found = latency.summary(list(range(1, count + 1)), 1, [])
    assert [name for name in ("p90_ns", "p95_ns", "p99_ns") if found[name] is not None] == supported


def test_summary_keeps_every_sample_and_counts_outliers():
    samples = [100] * 8 + [301, 5000]
    found = latency.summary(samples, 7, [Window(samples)])
    assert found["samples_ns"] == samples
    assert (found["median_ns"], found["min_ns"], found["max_ns"]) == (100, 100, 5000)
    assert found["outlier_share"] == 0.2
    assert found["mad_ns"] == 0
    assert found["cv"] == pytest.approx(np.std(samples, ddof=1) / np.mean(samples))
    assert (found["per_sample"], found["windows_ns"]) == (7, [100])


@pytest.mark.parametrize(
    ("medians", "stable"),
    [
        ([100, 100], False),
        ([100, 104, 105], True),
        ([100, 104, 106], False),
        ([50, 100, 104, 105], True),
        ([100, 100, 100, 150], False),
    ],
)
def test_stable_when_the_last_three_medians_are_within_5_percent(medians, stable):
    assert latency.stable([Window([value] * 3) for value in medians]) is stable


@pytest.mark.parametrize(("tail", "stable"), [(109, True), (112, False)])
def test_stable_only_when_the_90th_percentiles_are_within_10_percent_too(tail, stable):
    steady, late = [100] * 20, [100] * 17 + [tail] * 3
    assert latency.stable([Window(steady), Window(steady), Window(late)]) is stable


def windows_of(count, value=100):
    return [Window([value] * 10) for _ in range(count)]


@pytest.mark.parametrize(
    ("seconds", "samples", "windows", "ended"),
    [
        (0.9, 1000, windows_of(3), False),  # least time
        (1.1, 63, windows_of(3), False),  # least samples
        (1.1, 64, windows_of(3), True),
        (1.1, 64, windows_of(2), False),  # three windows
        (5.0, 999, windows_of(2) + windows_of(1, 200), False),  # not stable
        (5.0, 999, windows_of(9) + windows_of(1, 200), True),  # ten windows
        (15.0, 3, windows_of(1), True),  # the longest time
    ],
)
def test_quick_plan_stops_when_all_its_rules_hold_or_at_its_end(seconds, samples, windows, ended):
    assert StoppingRule(plain(QUICK), 5 * MS).ended(seconds, samples, windows) is ended


def test_sustained_plan_lasts_its_fixed_time_however_stable():
    rule = StoppingRule(plain(SUSTAINED), 5 * MS)
    assert not rule.ended(599.0, 10**6, windows_of(50))
    assert rule.ended(600.0, 1, [])


@pytest.mark.parametrize("plan", [QUICK, STANDARD, FULL])
@pytest.mark.parametrize("expected_ns", [10_000, 400_000, 2 * MS, 50 * MS])
def test_ten_windows_reach_the_least_sample_and_time(plan, expected_ns):
    rule = StoppingRule(plain(plan), expected_ns)
    reachable = rule.max_seconds * 1e9 / expected_ns / rule.per_sample
    assert 10 * rule.window_samples >= min(plan.min_samples, int(reachable) - 10)
    assert 10 * rule.window_seconds >= plan.min_seconds


def test_a_slow_model_still_gets_its_windows():
    rule = StoppingRule(plain(QUICK), 1000 * MS)
    assert rule.window_samples == 3


@pytest.mark.parametrize(
    ("expected_ns", "plan", "single"),
    [
        (5 * MS, QUICK, True),
        (600_000, FULL, True),
        (300_000, QUICK, True),
        (20_000, QUICK, False),
        (2_000, FULL, False),
    ],
)
def test_only_very_fast_models_are_batched_and_samples_stay_bounded(expected_ns, plan, single):
    rule = StoppingRule(plain(plan), expected_ns)
    assert (rule.per_sample == 1) is single
    if not single:
        assert rule.per_sample * expected_ns >= 100_000
        assert 10 * rule.window_seconds * 1e9 / (rule.per_sample * expected_ns) <= 20_000


def test_a_long_fixed_time_keeps_at_most_20000_samples():
    rule = StoppingRule(plain(SUSTAINED), 1 * MS)
    assert 600e9 / (rule.per_sample * MS) <= 20_000


def test_minute_medians_follow_a_board_that_heats_up():
    samples = [10] * 100 + [20] * 50 + [30] * 10
    assert latency.minute_medians(samples, 1, minute_ns=1000) == [10, 20]
    assert latency.minute_medians([10] * 50, 2, minute_ns=1000) == [10]
    assert latency.minute_medians([10, 10, 10], 1, minute_ns=1000) == [10]
