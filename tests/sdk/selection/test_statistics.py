"""Intervals cover what they should, are deterministic, and are absent where the sample says nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from edgeopt.selection.statistics import drop_interval, latency_bootstrap, launch_noise
from support.measurements import latency, latency_of, measurement


def launches(median_ms: float, *, seed: int = 0, spread: float = 0.0) -> list:
    """Four launches whose own medians scatter by `spread`, as processes do."""
    rng = random.Random(seed)
    return [latency(median_ms * (1 + rng.gauss(0, spread)), samples=200, seed=100 * seed + i) for i in range(4)]


def test_statistics_of_known_samples_are_exact() -> None:
    known = [latency_of(range(1, 1001), windows=5)]
    estimates = {
        name: latency_bootstrap(known, name, seed=0) for name in ("median", "mean", "p90", "p95", "p99", "max")
    }
    assert {name: found and found.value for name, found in estimates.items()} == {
        "median": 500, "mean": pytest.approx(500.5), "p90": 900, "p95": 950, "p99": 990, "max": 1000,
    }  # fmt: skip


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_the_same() -> None:
    first, again, other = (latency_bootstrap(launches(2.0), "p90", seed=seed) for seed in (1, 1, 2))
    assert first
    assert again
    assert other
    assert first.interval() == again.interval()
    assert first.interval() != other.interval()
    assert first.interval().high == pytest.approx(other.interval().high, rel=0.01)


def test_every_launch_weighs_the_same_however_many_samples_it_took() -> None:
    short, long = latency_of([100] * 10), latency_of([200] * 1000)
    found = latency_bootstrap([short, long], "mean", seed=0)
    assert found
    assert found.value == pytest.approx(150)


def test_launches_that_differ_make_the_interval_wide_although_each_is_steady() -> None:
    steady = latency_bootstrap([latency_of([100, 101] * 50, 5)] * 3, "median", seed=0)
    jumping = latency_bootstrap([latency_of([v, v + 1] * 50, 5) for v in (90, 100, 120)], "median", seed=0)
    assert steady
    assert jumping
    assert steady.interval().high - steady.interval().low <= 1
    assert jumping.interval().low <= 91
    assert jumping.interval().high >= 120


def test_one_sample_has_no_interval_and_no_sample_has_no_estimate() -> None:
    found = latency_bootstrap([latency_of([7])], "median", seed=0)
    assert found
    assert (found.interval().low, found.interval().value, found.interval().high) == (7, 7, 7)
    assert latency_bootstrap([replace(latency_of([7]), samples_ns=())], "median", seed=0) is None
    assert latency_bootstrap([], "median", seed=0) is None


@pytest.mark.parametrize(("statistic", "least"), [("p90", 64), ("p95", 130), ("p99", 662)])
def test_percentiles_need_their_number_of_samples_over_all_launches(statistic: str, least: int) -> None:
    half = latency_of(range(1, least // 2 + 1))
    assert latency_bootstrap([half, half], statistic, seed=0) is not None  # type: ignore[arg-type]
    assert latency_bootstrap([half, latency_of(range(1, least // 2))], statistic, seed=0) is None  # type: ignore[arg-type]


def test_the_interval_of_a_ratio_covers_the_truth_in_most_experiments() -> None:
    covered = 0
    for seed in range(60):
        slow = latency_bootstrap(launches(2.0, seed=seed, spread=0.02), "median", seed=1)
        fast = latency_bootstrap(launches(1.0, seed=seed + 1000, spread=0.02), "median", seed=2)
        assert slow
        assert fast
        ratio = slow.over(fast)
        covered += ratio.low <= 2.0 <= ratio.high
    assert covered >= 45  # four launches cannot give the full 95 %


def test_paired_samples_tell_a_small_drop_that_unpaired_ones_could_not() -> None:
    reference = [1.0] * 900 + [0.0] * 100
    loses_ten = [1.0] * 890 + [0.0] * 110
    interval = drop_interval(reference, loses_ten, seed=0)
    assert interval.value == pytest.approx(0.01)
    assert 0.003 < interval.low < 0.006
    assert 0.015 < interval.high < 0.018
    same = drop_interval(reference, reference, seed=0)
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_a_gain_is_a_negative_drop() -> None:
    assert drop_interval([0.0, 1.0] * 50, [1.0] * 100, seed=0).high < 0


def test_many_distinct_losses_give_the_interval_of_the_normal_law() -> None:
    rng = random.Random(0)
    values = [rng.random() for _ in range(10_000)]
    interval = drop_interval([1.0] * 10_000, values, seed=0)
    small = drop_interval([1.0] * 4_000, values[:4_000], seed=0)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.2887 / 100, rel=0.05)
    assert small.high - small.low == pytest.approx((interval.high - interval.low) * 2.5**0.5, rel=0.1)


def test_noise_is_the_largest_difference_between_two_valid_launches() -> None:
    taken = [measurement("original", latency_of([value] * 9)) for value in (100, 104, 102)]
    assert launch_noise(taken) == pytest.approx(0.04)
    spoiled = measurement("original", latency_of([300] * 9), flags=("throttled",))
    crashed = measurement("original", None, status="crash")
    assert launch_noise([*taken, spoiled, crashed]) == pytest.approx(0.04)
    assert launch_noise(taken[:1]) == 0.0


def test_noise_does_not_grow_with_the_number_of_launches() -> None:
    rng, found = random.Random(4), {3: 0.0, 12: 0.0}
    for count in found:
        for _ in range(300):
            values = [int(1e6 * (1 + rng.gauss(0, 0.02))) for _ in range(count)]
            found[count] += launch_noise([measurement("original", latency_of([value])) for value in values])
    assert found[12] == pytest.approx(found[3], rel=0.1)
