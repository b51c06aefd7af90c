from __future__ import annotations

import pytest

from edgeopt.selection.netadapt import Group, LayerTimes, choose_widths, natural_rounding


def layer(inputs: int, outputs: int, per_output: float, **changes: object) -> LayerTimes:
    """Times in proportion to both widths."""
    by_outputs = {width: per_output * width for width in range(4, outputs + 1, 4)}
    full = by_outputs[outputs]
    by_inputs = {width: full * width / inputs for width in range(4, inputs + 1, 4)} or {inputs: full}
    return LayerTimes(inputs, outputs, **{"by_inputs": by_inputs, "by_outputs": by_outputs, **changes})


def group(name: str, channels: int, worst: float, inputs: dict[str, int] | None = None) -> Group:
    errors = {width: worst * (1 - width / channels) for width in range(4, channels + 1, 4)}
    return Group(name, channels, {name: channels}, inputs or {}, errors)


def test_of_two_layers_that_cost_the_same_time_the_one_that_matters_less_is_narrowed() -> None:
    layers = {"vital": layer(16, 16, 1.0), "idle": layer(16, 16, 1.0)}
    found = choose_widths([group("vital", 16, 10.0), group("idle", 16, 1.0)], layers, budget=0.7)
    assert found.met
    assert found.share <= 0.7
    assert found.kept["vital"] == 16
    assert found.kept["idle"] < 16


def test_a_layer_that_takes_the_narrowed_channels_gets_faster_too() -> None:
    layers = {"first": layer(4, 32, 1.0), "second": layer(32, 32, 4.0)}
    alone = choose_widths([group("first", 32, 1.0)], layers, budget=0.9)
    coupled = choose_widths([group("first", 32, 1.0, {"second": 32})], layers, budget=0.9)
    assert coupled.kept["first"] > alone.kept["first"], "the layer behind it pays part of the budget"
    assert coupled.met


def test_a_width_that_is_no_faster_on_the_device_is_not_taken() -> None:
    steps = {8: 5.0, 12: 10.0, 16: 10.0}  # 12 channels take as long as 16
    layers = {"conv": LayerTimes(16, 16, {16: 10.0}, steps)}
    free = Group("conv", 16, {"conv": 16}, {}, {12: 0.0, 8: 1.0, 16: 0.0})
    assert choose_widths([free], layers, budget=0.9).kept["conv"] == 8


def test_a_budget_that_nothing_meets_gives_the_narrowest_and_says_so() -> None:
    layers = {"conv": layer(16, 16, 1.0)}
    found = choose_widths([group("conv", 16, 1.0)], layers, budget=0.01, fixed=5.0)
    assert not found.met
    assert found.kept["conv"] == 4
    assert found.share == pytest.approx((5 + 4) / (5 + 16))


def test_a_whole_budget_changes_nothing() -> None:
    layers = {"conv": layer(16, 16, 1.0)}
    assert choose_widths([group("conv", 16, 1.0)], layers, budget=1.0).kept == {"conv": 16}


def test_depthwise_times_go_by_one_width() -> None:
    tied = LayerTimes(16, 16, {}, {8: 4.0, 16: 8.0}, tied=True)
    assert tied.at(8, 8) == 4.0
    assert tied.at(12, 12) == 6.0


@pytest.mark.parametrize("step", [1, 2, 4, 8, 16])
def test_the_steps_of_a_device_are_found_through_noise(step: int) -> None:
    noise = {1: 1.01, 2: 0.995, 4: 1.005, 8: 0.99}
    times = {32: 32.0, 48: 48.0}
    times |= {32 + more: (32 + -(-more // step) * step) * factor for more, factor in noise.items()}
    assert natural_rounding(times) == step


def test_times_that_do_not_rise_allow_the_coarsest_steps() -> None:
    assert natural_rounding({32: 10.0, 33: 10.0, 34: 10.0, 36: 10.0, 40: 10.0, 48: 10.0}) == 16


def test_channels_that_a_flattening_spreads_or_a_concatenation_joins_narrow_in_proportion() -> None:
    layers = {"linear": layer(64, 8, 1.0)}
    half = Group(
        "conv", 8, {}, {"linear": 32}, {4: 0.0, 8: 0.0}
    )  # 8 channels at 4 places, beside 32 features of others
    assert choose_widths([half], layers, budget=0.75).share == pytest.approx(0.75)
