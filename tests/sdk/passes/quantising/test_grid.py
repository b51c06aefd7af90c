import numpy as np
import pytest
import torch

from edgeopt.passes.quantising.fake_quantisation import Rounding, on_grid
from edgeopt.passes.quantising.grid import (
    ALL_BITS,
    best_scale,
    codes_at,
    exact,
    nearest,
    range_scale,
    smallest,
    top_code,
)
from edgeopt.passes.quantising.torch_weights import LayerWeight


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_grid_of_a_rounded_weight_can_be_read_off_it(bits):
    grid = nearest(weights(16, 8, 3, 3), bits, 0)
    found = exact(grid.weight, bits, 0)
    assert found is not None
    assert np.array_equal(found.codes, grid.codes)
    assert np.allclose(found.scale, grid.scale, rtol=1e-6)
    assert smallest(grid.weight, 0).bits == bits


@pytest.mark.parametrize("bits", ALL_BITS)
def test_every_channel_uses_its_largest_code(bits):
    codes = np.abs(nearest(weights(16, 8, 3, 3), bits, 0).codes).reshape(16, -1)
    assert (codes.max(1) == top_code(bits)).all()


def test_a_weight_on_no_grid_has_none():
    assert smallest(weights(16, 72), 0) is None


def test_more_bits_lose_less():
    weight = weights(32, 64)
    errors = [float(((nearest(weight, bits, 0).weight - weight) ** 2).mean()) for bits in ALL_BITS]
    assert errors == sorted(errors, reverse=True)


def test_four_bits_that_cut_the_range_lose_less_than_the_whole_range():
    weight = weights(8, 512)
    whole = codes_at(weight, range_scale(weight, 4, 0), 4) * range_scale(weight, 4, 0)
    assert ((nearest(weight, 4, 0).weight - weight) ** 2).sum() < ((whole - weight) ** 2).sum()


def test_scale_of_one_bit_is_the_mean_magnitude():
    weight = weights(4, 9)
    assert np.allclose(best_scale(weight, 1, 0)[:, 0], np.abs(weight).mean(1))


def test_eight_bits_where_products_saturate_have_codes_to_64():
    grid = nearest(weights(8, 64), 8, 0, reduced=True)
    assert np.abs(grid.codes).max() == 64
    assert smallest(grid.weight, 0).bits == 8


@pytest.mark.parametrize("bits", ALL_BITS)
def test_a_channel_of_zeros_stays_zero(bits):
    weight = weights(4, 9)
    weight[1] = 0
    assert not nearest(weight, bits, 0).weight[1].any()
    assert exact(nearest(weight, bits, 0).weight, bits, 0) is not None


def test_two_axes_have_a_scale_for_each_pair_of_indices():
    grid = nearest(weights(2, 12, 5), 4, (0, 1))
    assert grid.scale.shape == (2, 12, 1)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("axis", [0, 1])
def test_training_rounds_to_the_same_grid(bits, axis):
    weight = weights(6, 10, 3, 3, seed=bits)
    grid = nearest(weight, bits, axis)
    share = torch.from_numpy(grid.scale / range_scale(weight, bits, axis)) if bits == 4 else torch.ones(())
    rounded = on_grid(torch.from_numpy(weight), Rounding(LayerWeight("w", "", axis), bits), share)
    assert np.allclose(rounded.numpy(), grid.weight, atol=1e-6)
