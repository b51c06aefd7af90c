import itertools
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import ParityError, PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes.make import make_variant
from edgeopt.passes.quantising.rank import rank_layers
from edgeopt.passes.recover import Goal, _first_count, _next_count, known_ranking, rank, recover
from support.compressing import fragile_onnx, make_context, sample_file
from support.networks import constant, mlp_onnx, save

INT8 = Recipe("int8-minmax", (PassSpec("quantise_static"),), "int8", recover=True)
CONVERTING = Recipe("litert-int8", (PassSpec("convert_litert", {"precision": "int8"}),), "int8", recover=True)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A network that loses points in int8, its context, evaluation set, and the quantised result with its metric."""
    folder = tmp_path_factory.mktemp("damaged")
    network = fragile_onnx(folder / "n.onnx", 100.0)
    context = make_context(folder, network)
    evaluation = sample_file(folder / "e.npz", network, 100, seed=5)
    made = make_variant(network, INT8, context)
    return network, context, evaluation, (made, evaluate_onnx(made.path, evaluation, "top1").value)


def test_the_layers_behind_the_loss_rank_first(damaged):
    network, context, _, _ = damaged
    ranking = rank(network, INT8, context)
    assert {name for name, _ in ranking[:2]} == {"fc2", "fc3"}
    assert sum(share for _, share in ranking) == pytest.approx(1.0)
    assert len(ranking) == 6


def test_the_budget_holds_with_few_layers_in_float(damaged):
    network, context, evaluation, quantised = damaged
    assert 1.0 - quantised[1] > 0.02, "the premise: plain int8 misses the budget"
    found = recover(network, INT8, context, Goal(evaluation, "top1", 1.0, 0.02), quantised=quantised)
    assert found.met
    assert found.drop <= 0.02
    assert 1 <= len(found.kept_float) <= 2
    assert found.value == evaluate_onnx(found.made.path, evaluation, "top1").value
    assert f"kept {len(found.kept_float)} of 6 layers in float" in found.summary
    assert "lost 5.0 points (budget 2.0)" in found.summary


def test_a_variant_within_the_budget_is_left_alone(damaged):
    network, context, evaluation, quantised = damaged
    found = recover(network, INT8, context, Goal(evaluation, "top1", 1.0, 0.5), quantised=quantised)
    assert (found.made, found.steps, found.kept_float) == (quantised[0], 0, ())


def test_what_the_passes_before_have_lost_is_not_looked_for_in_the_layers(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    context, evaluation = make_context(tmp_path, network), sample_file(tmp_path / "e.npz", network, 50, seed=5)
    spoiled = Recipe("coarse", (PassSpec("cluster_weights", {"clusters": 16}), *INT8.passes), "int8", recover=True)
    made = make_variant(network, spoiled, context)
    quantised = (made, evaluate_onnx(made.path, evaluation, "fidelity").value)
    found = recover(network, spoiled, context, Goal(evaluation, "fidelity", 1.0, 1e-6), quantised=quantised)
    assert (found.made, found.steps, found.met) == (made, 0, False)


def test_steps_are_bounded_and_the_best_so_far_is_kept(damaged):
    network, context, evaluation, quantised = damaged
    goal = Goal(evaluation, "top1", 1.0, -1.0, max_steps=2)  # cannot be met
    found = recover(network, INT8, context, goal, quantised=quantised)
    assert found.steps == 2
    assert not found.met
    assert found.value >= quantised[1]
    assert "still over the budget" in found.summary


def test_seconds_are_bounded(damaged):
    network, context, evaluation, quantised = damaged
    ticks = itertools.count(0, 1000)
    goal = Goal(evaluation, "top1", 1.0, -1.0, max_seconds=60)
    found = recover(network, INT8, context, goal, quantised=quantised, clock=lambda: next(ticks))
    assert found.steps == 0
    assert found.made == quantised[0]


@pytest.mark.parametrize(("tick", "steps"), [(25, 1), (20, 2)])
def test_no_step_begins_that_would_end_late_and_the_user_is_told(damaged, tick, steps):
    """The clock is read three times a step; the second step would begin 100 s after the start and end at 125."""
    network, context, evaluation, quantised = damaged
    ticks = itertools.count(0, tick)
    goal = Goal(evaluation, "top1", 1.0, -1.0, max_seconds=120)  # cannot be met
    found = recover(network, INT8, context, goal, quantised=quantised, clock=lambda: next(ticks))
    assert found.steps == steps
    assert found.summary.endswith(f"; the 120 s for this were up after try {steps}")


def test_where_no_layer_can_be_given_back_nothing_is_made_again(damaged, tmp_path):
    nodes = [helper.make_node("Sigmoid", ["x"], ["y"])]
    network = save(tmp_path / "n.onnx", nodes, {"x": (1, 4)}, {"y": (1, 4)})
    context = make_context(tmp_path, network)
    goal = Goal(sample_file(tmp_path / "e.npz", network, 10, seed=5), "fidelity", 1.0, 0.01)
    found = recover(network, INT8, context, goal, quantised=(damaged[3][0], 0.5))
    assert (found.steps, found.layers, found.summary) == (0, 0, "int8-minmax lost 50.0 points (budget 1.0)")
    with pytest.raises(PassError, match="its outputs are wrong; it has no layer to give back"):
        recover(network, INT8, context, goal, quantised=None)


def test_layers_of_a_pass_that_converts_are_ranked_as_those_of_int8(damaged):
    """Else none would be found, or every layer would be converted by itself."""
    network, context, _, _ = damaged
    assert rank(network, CONVERTING, context) == rank(network, INT8, context) != []


def test_a_recurrent_network_that_is_converted_has_no_layer_to_give_back(tmp_path):
    """Its head alone can be ranked, where it does not lose; every try would unroll and quantise all again."""
    draw = np.random.default_rng(0)
    weights = {"W": (1, 192, 5), "R": (1, 192, 64), "H": (64, 4)}
    constants = [constant(name, draw.normal(size=shape) * 0.1) for name, shape in weights.items()]
    nodes = [
        helper.make_node("GRU", ["x", "W", "R"], ["all", "last"], name="gru", hidden_size=64),
        helper.make_node("Reshape", ["last", "flat"], ["state"], name="flatten"),
        helper.make_node("MatMul", ["state", "H"], ["y"], name="head"),
    ]
    constants.append(constant("flat", [1, 64], np.int64))
    network = save(tmp_path / "n.onnx", nodes, {"x": (6, 1, 5)}, {"y": (1, 4)}, constants)
    assert rank(network, CONVERTING, make_context(tmp_path, network)) == []


def test_a_variant_dropped_for_wrong_outputs_can_be_put_right(tmp_path):
    network = fragile_onnx(tmp_path / "n.onnx", 3000.0)
    context = make_context(tmp_path, network)
    evaluation = sample_file(tmp_path / "e.npz", network, 50, seed=5)
    with pytest.raises(ParityError):
        make_variant(network, INT8, context)
    found = recover(network, INT8, context, Goal(evaluation, "top1", 1.0, 0.02), quantised=None)
    assert found.met
    assert set(found.kept_float) == {"fc2", "fc3"}


def test_a_recipe_without_a_lossy_pass_is_refused(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    recipe = Recipe("optimised", (PassSpec("simplify"),))
    with pytest.raises(PassError, match="nothing to give back"):
        rank(network, recipe, make_context(tmp_path, network))


@pytest.mark.parametrize("needed", range(1, 12))
def test_counting_finds_the_fewest_layers_that_hold(needed):
    layers, missed, met, count, tried = 12, 0, 0, 1, []
    while count:
        tried.append(count)
        missed, met = (missed, count) if count >= needed else (count, met)
        count = _next_count(missed, met, layers)
    assert met == needed
    assert len(tried) <= 8


def test_the_search_leaves_room_below_the_budget_for_the_interval_of_the_device(damaged):
    network, context, evaluation, (made, _) = damaged
    whole = evaluate_onnx(made.path, evaluation, "fidelity").value
    single = recover(
        network, INT8, context, Goal(evaluation, "fidelity", 1.0, 0.5, max_steps=1), quantised=(made, -1.0)
    )
    barely = Goal(evaluation, "fidelity", 1.0, single.drop * 1.1)

    found = recover(network, INT8, context, barely, quantised=(made, whole))

    assert found.met
    assert found.drop < single.drop
    assert len(found.kept_float) > len(single.kept_float)


def test_recipes_that_differ_in_ranges_and_types_alone_share_one_ranking(damaged):
    network, context, *_ = damaged
    options = {"calibrator": "entropy", "weights": "uint8", "reduce_range": False}
    other = Recipe("int8-unsigned", (PassSpec("quantise_static", options),), "int8")

    assert rank(network, other, context) == rank(network, INT8, context)
    assert len(list(context.cache.glob("ranking-*.json"))) == 1


def test_layers_are_ranked_once_for_all_boards(damaged):
    network, context, *_ = damaged
    recipe = replace(INT8, passes=(PassSpec("simplify"), *INT8.passes))
    boards = [("x86_64", ("avx2",)), ("x86_64", ("avx512_vnni",)), ("aarch64", ("asimddp",))]
    before = set(context.cache.glob("ranking-*.json"))
    rankings = [rank(network, recipe, replace(context, machine=name, isa=isa)) for name, isa in boards]
    assert rankings[0] == rankings[1] == rankings[2]
    assert len(set(context.cache.glob("ranking-*.json")) - before) == 1
    assert known_ranking(network, recipe, replace(context, machine="armv7l", isa=())) == rankings[0]


def test_the_layers_that_lead_on_any_board_lead_with_a_boards_own_weights(damaged, tmp_path):
    network, context, *_ = damaged
    fields = {"work": str(tmp_path), "cache": str(context.cache), "calibration": str(context.calibration), "seed": 0}
    arm = rank_layers("quantise_static", {}, str(network), {**fields, "machine": "aarch64", "isa": []}, 60.0)
    assert {name for name, _ in arm[:2]} == {name for name, _ in rank(network, INT8, context)[:2]}


@pytest.mark.parametrize(("bearable", "expected"), [(0.6, 1), (0.5, 1), (0.45, 2), (0.15, 3), (0.01, 3), (2.0, 1)])
def test_the_first_try_keeps_the_layers_behind_the_unbearable_share_of_the_error(bearable, expected):
    ranking = [("a", 0.5), ("b", 0.25), ("c", 0.125), ("d", 0.125)]

    assert _first_count(ranking, bearable) == expected


def test_counting_many_layers_ends_when_a_layer_more_or_less_matters_little():
    missed, met, count, steps = 0, 0, 16, 0
    while count:
        missed, met = (missed, count) if count >= 40 else (count, met)
        count, steps = _next_count(missed, met, 200), steps + 1

    assert 40 <= met <= 50
    assert steps == 5  # 16, 32, 64, 48, 40
