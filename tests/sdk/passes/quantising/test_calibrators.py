import numpy as np
import pytest

from edgeopt.passes.quantising.calibrators import BINS, Spread, cut


def spread_of(values):
    low, high = float(values.min()), float(values.max())
    return Spread(low, high, np.histogram(values, bins=BINS, range=(low, high))[0].astype(float))


def normal_with_outlier(low=0.0, outlier=100.0):
    values = np.random.default_rng(0).standard_normal(100_000)
    return np.append(np.maximum(values, low) if low == 0.0 else values, outlier)


def test_minmax_keeps_all():
    assert cut(Spread(-1.0, 3.0), "minmax") == (-1.0, 3.0)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile", "mse"])
@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (-3.0, -2.0), (0.0, 0.0)])
def test_zero_is_always_inside(method, low, high):
    spread = Spread(low, high, np.ones(BINS))
    first, last = cut(spread, method)
    assert first <= 0.0 <= last


@pytest.mark.parametrize("method", ["entropy", "percentile"])
@pytest.mark.parametrize("low", [0.0, -100.0])
def test_one_far_outlier_does_not_set_the_range(method, low):
    first, last = cut(spread_of(normal_with_outlier(low)), method)
    assert last < 60.0
    assert last > 2.0
    assert first >= -60.0


def test_percentile_drops_the_asked_share():
    values = np.random.default_rng(0).uniform(0, 1, 200_000)
    _, high = cut(spread_of(values), "percentile", percentile=90.0)
    assert high == pytest.approx(0.95, abs=0.005)


def rounding_error(values, interval):
    low, high = interval
    scale = (high - low) / 255
    rounded = low + scale * np.round((np.clip(values, low, high) - low) / scale)
    return float(((values - rounded) ** 2).mean())


def test_mse_has_the_least_rounding_error_of_all_calibrators():
    values = np.random.default_rng(1).laplace(size=100_000)
    spread = spread_of(values)
    best = rounding_error(values, cut(spread, "mse"))
    for method in ("minmax", "entropy", "percentile"):
        assert best <= rounding_error(values, cut(spread, method)) * 1.001


def test_mse_keeps_uniform_values_whole():
    values = np.random.default_rng(1).uniform(-1, 1, 100_000)
    low, high = cut(spread_of(values), "mse")
    assert low < -0.97
    assert high > 0.97


def test_entropy_is_not_blinded_by_the_zeros_of_a_relu():
    values = np.maximum(np.random.default_rng(2).standard_normal(100_000), 0)
    _, high = cut(spread_of(values), "entropy")
    assert high > 1.0
