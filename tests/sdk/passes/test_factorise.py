import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.factoring.factors import Svd, Whitening
from edgeopt.passes.make import MakeContext, make_variant
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.trained import trained


def factorise(source, folder, calibration=None, **options):
    """The pass applied; (path, notes)."""
    context = PassContext(work=folder, calibration=calibration)
    report = load_pass(PassSpec("factorise", options)).apply(source, folder / "low.onnx", context)
    return folder / "low.onnx", report.notes


def top1(path, name="residual"):
    return evaluate_onnx(path, trained(name).evaluation, "top1").value


def run(path, **feeds):
    return onnxruntime.InferenceSession(path).run(None, feeds)


def counted_macs(path):
    """Multiplications of convolutions and Gemm, from the shapes of a run: counted another way than the pass does."""
    model = onnx.load(path)
    sizes = {tensor.name: np.array(tensor.dims) for tensor in model.graph.initializer}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for node in model.graph.node for name in node.output)
    del model.graph.output[0]
    names = [value.name for value in model.graph.output]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = dict(zip(names, session.run(names, {"image": np.zeros([1, 1, 8, 8], np.float32)}), strict=True))
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return sum(int(found[node.output[0]].size * sizes[node.input[1]][1:].prod()) for node in layers)


def test_half_the_multiplications_cost_a_point_or_two_without_any_training(tmp_path):
    network = trained("residual")
    low, notes = factorise(network.network, tmp_path, network.calibration, budget=0.5)
    before, after = counted_macs(network.network), counted_macs(low)
    assert after <= 0.5 * before
    assert f"{before:,} multiplications became {after:,}" in notes[0]
    assert top1(low) >= network.top1 - 0.025
    assert inspect_onnx(low).parameters < 0.6 * inspect_onnx(network.network).parameters


def test_batch_norms_stay_for_a_pass_that_trains_after_it(tmp_path):
    network = trained("residual")
    low, _ = factorise(network.network, tmp_path, network.calibration)
    assert inspect_onnx(low).operators["BatchNormalization"] == 7


def test_what_the_inputs_are_makes_equal_ranks_lose_less(tmp_path):
    network = trained("transformer")
    aware, _ = factorise(network.network, tmp_path, network.calibration, budget=0.35)
    aware_top1 = top1(aware, "transformer")
    blind, _ = factorise(network.network, tmp_path, budget=0.35, weighting="none")
    assert aware_top1 >= top1(blind, "transformer") + 0.01


def test_weighting_is_the_best_there_is_on_the_inputs():
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((12, 16)).astype(np.float32)
    inputs = generator.standard_normal((500, 16)) * np.linspace(0.1, 3, 16)
    moment = inputs.T @ inputs / len(inputs)
    wanted = inputs @ weight.T

    def lost(factoring):
        first, second = factoring.stages((4,))
        return np.square(inputs @ (second.weight @ first.weight).T - wanted).sum()

    left, values, right = np.linalg.svd(wanted, full_matrices=False)  # no map of rank 4 can do better (Eckart, Young)
    least = np.square(wanted - (left[:, :4] * values[:4]) @ right[:4]).sum()
    assert lost(Svd(weight, Whitening.of(moment))) == pytest.approx(least, rel=1e-4)
    assert lost(Svd(weight)) > 1.2 * least


def test_a_transformer_keeps_its_accuracy_at_half_the_weights(tmp_path):
    network = trained("transformer")
    low, notes = factorise(network.network, tmp_path, network.calibration, budget=0.5, cost="parameters")
    assert "weights became" in notes[0]
    assert top1(low, "transformer") >= network.top1 - 0.02


def test_cp_puts_depthwise_convolutions_between_two_of_kernel_one(tmp_path):
    network = trained("residual")
    layers = [f"/blocks/blocks.1/conv{index}/Conv" for index in (1, 2)]
    low, notes = factorise(network.network, tmp_path, network.calibration, rank=32, convolution="cp", layers=layers)
    assert "2 of 8 layers" in notes[0]
    depthwise = [node for node in onnx.load(low).graph.node for a in node.attribute if a.name == "group" and a.i == 32]
    assert len(depthwise) == 4
    assert top1(low) >= network.top1 - 0.02


def test_statistics_taken_again_without_labels_give_accuracy_back(tmp_path):
    network = trained("residual")
    recipe = Recipe("low-rank", (PassSpec("factorise", {"budget": 0.35}), PassSpec("recalibrate")))
    context = MakeContext(network.evaluation, tmp_path, network.calibration, trainable=network.network)
    alone, _ = factorise(network.network, tmp_path, network.calibration, budget=0.35)
    assert top1(make_variant(network.network, recipe, context).path) > top1(alone) + 0.01


def low_rank(rank, *shape):
    """A weight [out, in, *kernel] of that rank along outputs, inputs and kernel."""
    generator = np.random.default_rng(len(shape))
    factors = [generator.standard_normal((size, rank)) for size in shape]
    letters = "abcde"[: len(shape)]
    return np.einsum(",".join(f"{letter}z" for letter in letters) + f"->{letters}", *factors).astype(np.float32)


def network_of(path, node, inputs, **weights):
    """A file with one node from ``x`` to ``y``; weights become initialisers."""
    values = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        values,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


CONVOLUTIONS = {
    "strided": ({"strides": [2, 1], "pads": [1, 0, 0, 2], "dilations": [1, 2]}, (20, 16, 3, 3), (1, 16, 11, 12)),
    "same": ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (20, 16, 3, 3), (2, 16, 11, 12)),
    "pointwise": ({"strides": [2, 2], "pads": [1, 1, 1, 1]}, (20, 16, 1, 1), (1, 16, 8, 9)),
    "one axis": ({"pads": [2, 2], "dilations": [2]}, (20, 16, 3), (1, 16, 15)),
    "three axes": ({"strides": [1, 2, 1]}, (20, 16, 3, 3, 2), (1, 16, 6, 7, 5)),
}


@pytest.mark.parametrize("method", ["tucker", "cp"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_that_is_of_low_rank_stays_the_same(kind, method, tmp_path):
    attributes, shape, inputs = CONVOLUTIONS[kind]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", **attributes)
    bias = np.arange(20, dtype=np.float32)
    source = network_of(tmp_path / "n.onnx", node, inputs, w=low_rank(3, *shape), b=bias)
    low, notes = factorise(source, tmp_path, energy=0.9999999, convolution=method, weighting="none")
    x = np.random.default_rng(1).standard_normal(inputs).astype(np.float32)
    (expected,), (found,) = run(source, x=x), run(low, x=x)
    assert np.abs(found - expected).max() < 2e-2 * np.abs(expected).max(), notes
    assert len(onnx.load(low).graph.node) > 1, "it was factorised"


def test_gemm_keeps_its_scales_and_bias(tmp_path):
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", alpha=0.5, beta=2.0)
    bias = np.arange(24, dtype=np.float32)
    source = network_of(tmp_path / "n.onnx", node, (3, 32), w=low_rank(4, 32, 24), b=bias)
    low, notes = factorise(source, tmp_path, energy=0.9999999, weighting="none")
    x = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)
    assert "fc (rank 4)" in notes[0]
    np.testing.assert_allclose(run(low, x=x)[0], run(source, x=x)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_a_recurrent_layer_gets_its_input_through_fewer_numbers(operator, tmp_path):
    gates = {"LSTM": 4, "GRU": 3}[operator]
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], name="rnn", direction="bidirectional", hidden_size=8)
    recurrent = np.random.default_rng(2).standard_normal((2, gates * 8, 8)).astype(np.float32) * 0.3
    weight = low_rank(3, 2 * gates * 8, 16).reshape(2, gates * 8, 16) * 0.2
    source = network_of(tmp_path / "n.onnx", node, (5, 1, 16), w=weight, r=recurrent)
    low, notes = factorise(source, tmp_path, energy=0.9999999, weighting="none")
    x = np.random.default_rng(1).standard_normal((5, 1, 16)).astype(np.float32)
    assert "rnn (rank 3)" in notes[0]
    np.testing.assert_allclose(run(low, x=x)[0], run(source, x=x)[0], rtol=1e-3, atol=1e-4)


def test_layers_that_cannot_or_need_not_be_changed_are_listed_with_the_reason(tmp_path):
    network = trained("depthwise")
    _, notes = factorise(network.network, tmp_path, network.calibration, budget=0.8)
    assert "/features/features.6/Conv (grouped or depthwise)" in notes[1]
    assert "/head/Gemm (the budget holds without)" in notes[1]


def test_a_rank_that_saves_nothing_leaves_the_layer_whole(tmp_path):
    network = trained("residual")
    _, notes = factorise(network.network, tmp_path, network.calibration, rank_ratio=0.6)
    assert "/stem/stem.0/Conv (rank 1x10 saves nothing)" in notes[1]


def test_a_rank_above_the_full_rank_is_refused_with_both(tmp_path):
    network = trained("transformer")
    with pytest.raises(PassError, match=r"rank 33 is above the full rank 8 of /embed/MatMul"):
        factorise(network.network, tmp_path, network.calibration, rank=33)


def test_a_budget_that_nothing_meets_says_what_can_be_had(tmp_path):
    network = trained("recurrent")
    with pytest.raises(PassError, match=r"budget 0.5 cannot be met: with the least rank everywhere 0.8\d+ of the cost"):
        factorise(network.network, tmp_path, network.calibration, budget=0.5)


def test_nothing_gained_is_an_error(tmp_path):
    network = trained("residual")
    with pytest.raises(PassError, match="no layer was factorised"):
        factorise(network.network, tmp_path, network.calibration, rank_ratio=1.0)


def test_an_unknown_layer_is_named_with_those_there_are(tmp_path):
    network = trained("residual")
    with pytest.raises(PassError, match=r"'no_such_layer'.*Layers: /stem/stem\.0/Conv"):
        factorise(network.network, tmp_path, network.calibration, layers=["no_such_layer"])


def test_a_stage_may_be_named_among_those_kept_in_float(tmp_path):
    network = trained("residual")
    context = PassContext(
        work=tmp_path, calibration=network.calibration, keep_float=("/blocks/blocks.1/conv1/Conv/low_rank_0",)
    )
    load_pass(PassSpec("factorise")).apply(network.network, tmp_path / "low.onnx", context)
    assert (tmp_path / "low.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.5, "energy": 0.9}, "budget and energy are given"),
        ({"energy": 1.5}, "energy is 1.5"),
        ({"rank": 0}, "rank is 0"),
        ({"budget": 0}, "budget is 0"),
        ({"samples": 0}, "samples is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_value(options, message):
    with pytest.raises(PassError, match=message):
        load_pass(PassSpec("factorise", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", [{}, {"energy": 0.9, "weighting": "none"}], ids=["weighted", "plain"])
def test_it_conforms(check, options, tmp_path):
    network = trained("residual")
    case = Case("factorise", network.network, network.calibration, tmp_path, options)
    check(case)
