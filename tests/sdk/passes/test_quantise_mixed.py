import numpy as np
import onnx
import pytest

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes.graphs.chains import pairs, scaled_inputs, scaled_outputs
from edgeopt.passes.quantise_mixed import Options
from edgeopt.passes.quantising.mixture import FLOAT, Choice, choose
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import applied, changed, top1
from support.trained import trained

SMALL = {"samples": 16}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    check(Case("quantise_mixed", files.network, files.calibration, tmp_path, {"budget": 0.6, **SMALL}))


def with_one_fragile_pair(network):
    """Between the first two layers that follow each other every other channel grows 1000 times; the function stays."""
    pair = pairs(network)[0]
    factor = np.where(np.arange(pair.first.outputs) % 2, 1000.0, 1.0)
    network.set_weight(pair.first, scaled_outputs(network.weight(pair.first), factor))
    network.set_bias(pair.first, network.bias(pair.first) * factor)
    network.set_weight(pair.second, scaled_inputs(pair.second, network.weight(pair.second), 1 / factor))


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_layers_that_int8_ruins_stay_float_and_the_budget_holds(tmp_path):
    files = trained("residual")
    fragile = changed(files.network, tmp_path / "fragile.onnx", with_one_fragile_pair)
    whole = top1(applied("quantise_static", fragile, files, tmp_path / "q", **SMALL)[0], files)
    path, report = applied("quantise_mixed", fragile, files, tmp_path / "m", budget=0.6, **SMALL)
    assert whole < 0.7 < 0.99 <= top1(path, files)
    assert "/blocks/blocks.0/conv2/Conv" in report.kept_float
    assert "/blocks/blocks.1/conv1/Conv" not in report.kept_float
    assert stored_bytes(path) <= 0.6 * stored_bytes(fragile)
    assert report.notes[0].endswith("(budget 60%)")


def stored_bytes(path):
    """Bytes of all constants of two dimensions or more, and of the scales of those that are int8."""
    tensors = onnx.load(path).graph.initializer
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in tensors if len(tensor.dims) >= 2)


def test_a_tighter_budget_takes_4_bits_where_they_cost_least(tmp_path):
    files = trained("transformer")
    loose, loose_report = applied("quantise_mixed", files.network, files, tmp_path / "l", budget=0.6, **SMALL)
    tight, tight_report = applied("quantise_mixed", files.network, files, tmp_path / "t", budget=0.22, **SMALL)
    assert operators(loose).count("MatMulNBits") < operators(tight).count("MatMulNBits")
    assert set(tight_report.kept_float) < set(loose_report.kept_float)
    assert top1(loose, files) >= files.top1 - 0.01
    assert top1(tight, files) >= files.top1 - 0.02


def test_weights_alone_leave_all_activations_in_float(tmp_path):
    files = trained("transformer")
    path, _ = applied("quantise_mixed", files.network, files, tmp_path, budget=0.3, precisions=["int4"], **SMALL)
    assert operators(path).count("MatMulNBits") > 5
    assert not {"QuantizeLinear", "DequantizeLinear"}.intersection(operators(path))
    assert top1(path, files) >= files.top1 - 0.02


def test_measured_times_decide_where_they_are_given(tmp_path):
    files = trained("residual")
    slow, quick = "/blocks/blocks.1/conv2/Conv", "/blocks/blocks.1/conv1/Conv"
    costs = {slow: {"float": 9.0, "int8": 3.0}, quick: {"float": 1.0, "int8": 1.0}}
    _, report = applied("quantise_mixed", files.network, files, tmp_path, budget=0.45, costs=costs, **SMALL)
    assert slow not in report.kept_float
    assert len(report.kept_float) == 7
    assert report.notes[0] == "layers: 7 float, 1 int8, 0 int4; the layers take 40% of the float time (budget 45%)"


def test_a_budget_that_nothing_meets_says_what_is_possible(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match=r"budget of 10%: the least possible is 2\d\.\d%"):
        applied("quantise_mixed", files.network, files, tmp_path, budget=0.1)


def test_costs_of_a_layer_that_is_not_there_are_refused(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match="/no/such"):
        applied("quantise_mixed", files.network, files, tmp_path, costs={"/no/such": {"float": 1.0}})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"budget": 1.0}, "budget is 1.0"),
        ({"precisions": []}, "precisions is empty"),
        ({"precisions": ["int3"]}, "int3"),
        ({"samples": 0}, "samples is 0"),
        ({"max_seconds": 0}, "max_seconds is 0"),
        ({"costs": {"a": {"int8": 1.0}}}, "costs of 'a'"),
        ({"costs": {"a": {"float": float("nan")}}}, "costs of 'a'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, named):
    with pytest.raises(PassError, match=named):
        load_pass(PassSpec("quantise_mixed", options))


def test_defaults_make_sense():
    assert Options() == Options()


def layer(unit, loss8, loss4=None):
    """A layer of `unit` bytes in float, its losses in int8 and int4."""
    return Choice({FLOAT: 4 * unit, "int8": unit, "int4": unit / 2}, {"int8": loss8, "int4": loss4})


def test_the_least_loss_for_each_byte_goes_first():
    layers = {"small": layer(1, 0.1), "big": layer(10, 0.5), "fragile": layer(10, 50.0)}
    assert choose(layers, 54) == {"small": FLOAT, "big": "int8", "fragile": FLOAT}
    assert choose(layers, 51) == {"small": "int8", "big": "int8", "fragile": FLOAT}


def test_a_layer_may_be_made_cheaper_twice():
    layers = {"robust": layer(10, 0.1, 0.2), "fragile": layer(10, 50.0, 90.0)}
    assert choose(layers, 50) == {"robust": "int8", "fragile": FLOAT}
    assert choose(layers, 45) == {"robust": "int4", "fragile": FLOAT}


def test_layers_of_unknown_loss_are_the_last():
    layers = {"unknown": layer(10, None), "known": layer(10, 99.0)}
    assert choose(layers, 50) == {"unknown": FLOAT, "known": "int8"}
    assert choose(layers, 20) == {"unknown": "int8", "known": "int8"}


def test_a_budget_that_holds_already_changes_nothing():
    assert choose({"a": layer(1, 0.0)}, 4) == {"a": FLOAT}
