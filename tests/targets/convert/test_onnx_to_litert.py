"""TFLite files of trained networks: right in LiteRT, quantised for certain, fed as the original is.

One conversion takes seconds, so most tests share one cache, as recipes do; the other networks are under `long`.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes._base import PassContext
from edgeopt.passes.make import make_variant
from edgeopt.passes.recover import Goal, recover
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_runner.engines import _tflite_file
from support.compressing import fragile_onnx, make_context, sample_file
from support.converting import converted
from support.trained import trained

LEAST = {"float": 0.9999, "half": 0.9999, "dynamic": 0.999, "int8": 0.95, "int8_io": 0.95, "weights4": 0.93}
SHARE = {"float": 1.3, "half": 0.85, "dynamic": 0.65, "int8": 1.3, "int8_io": 1.3, "weights4": 0.6}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def keeps_its_accuracy(network, precision, work, cache):
    original = trained(network)
    made = converted("convert_litert", original, work, cache, precision=precision)
    assert made.cosine > LEAST[precision]
    assert made.top1 > original.top1 - 0.02
    assert made.path.stat().st_size < SHARE[precision] * original.network.stat().st_size


@pytest.mark.parametrize("precision", list(LEAST))
def test_a_trained_network_keeps_its_accuracy_and_is_converted_once(precision, tmp_path, cache):
    keeps_its_accuracy("depthwise", precision, tmp_path, cache)
    assert len(list(cache.glob("litert-*.tflite"))) == 1, "precisions share the float file"


@pytest.mark.long
@pytest.mark.parametrize("network", ["residual", "transformer", "recurrent"])
def test_other_trained_networks_keep_their_accuracy(network, tmp_path, cache):
    for precision in LEAST:
        keeps_its_accuracy(network, precision, tmp_path / precision, cache)


@pytest.mark.long
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    made = trained("depthwise")
    check(Case("convert_litert", made.network, made.calibration, tmp_path, {"precision": "int8"}))


def test_integers_at_the_edges_are_fed_and_read_as_real_numbers(tmp_path, cache):
    made = converted("convert_litert", trained("depthwise"), tmp_path, cache, precision="int8_io")
    ports = _tflite_file.signature(str(made.path))
    assert [port.name for port in ports.inputs + ports.outputs] == ["image", "logits"]
    session = open_session(made.path)
    (found,) = run_feed(session, {"image": np.ones((1, 1, 8, 8), np.float32)}).values()
    assert found.dtype == np.float32
    assert {str(dtype) for _, _, dtype in session._session._inputs} == {"<class 'numpy.int8'>"}


def test_a_layer_that_is_to_stay_in_float_does_and_an_unknown_one_is_named(tmp_path, cache):
    original = trained("depthwise")
    plain = converted("convert_litert", original, tmp_path / "plain", cache, precision="int8")
    node = _linear(original.network)
    made = converted("convert_litert", original, tmp_path / "kept", cache, keep=(node,), precision="int8")
    assert made.kept_float == (node,)
    assert made.path.stat().st_size > plain.path.stat().st_size
    with pytest.raises(PassError, match="'/no/such/node', which is not a layer"):
        converted("convert_litert", original, tmp_path / "no", cache, keep=("/no/such/node",), precision="int8")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_layers_that_lose_too_much_are_given_back(tmp_path):
    """Long for its conversions: one for each try."""
    network = fragile_onnx(tmp_path / "n.onnx", 100.0)
    context, evaluation = make_context(tmp_path, network), sample_file(tmp_path / "e.npz", network, 100, seed=5)
    recipe = Recipe("litert-int8", (PassSpec("convert_litert", {"precision": "int8"}),), "int8", recover=True)
    made = make_variant(network, recipe, context)
    value = evaluate_onnx(made.path, evaluation, "top1").value
    assert value < 0.98, "the premise: plain int8 misses the budget"
    found = recover(network, recipe, context, Goal(evaluation, "top1", 1.0, 0.02), quantised=(made, value))
    assert found.met, found.summary
    assert 1 <= len(found.kept_float) <= 3
    assert f"kept {len(found.kept_float)} of 6 layers in float" in found.summary


def _linear(network):
    import onnx

    return next(node.name for node in onnx.load(network).graph.node if node.op_type in ("Gemm", "MatMul"))


def test_channels_last_inside_are_fed_as_the_original_is(tmp_path, cache):
    original = trained("depthwise")
    made = converted("convert_litert", original, tmp_path, tmp_path, precision="float", layout="nhwc")
    assert made.cosine > 0.9999
    assert _tflite_file.signature(str(made.path)).inputs[0].channels_last


def test_full_integers_ask_for_samples(tmp_path, cache):
    original = trained("depthwise")
    step = load_pass(PassSpec("convert_litert", {"precision": "int8"}))
    with pytest.raises(PassError, match="int8 needs calibration samples") as caught:
        step.apply(original.network, tmp_path / "made.tflite", PassContext(tmp_path))
    assert "--calibration" in caught.value.remedy


def test_layers_that_stayed_in_float_are_an_error_that_lists_them():
    from edgeopt_targets.convert.litert_quantising import _census
    from edgeopt_targets.convert.tflite_model import Layer

    layers = [Layer("stem;1", "CONV_2D", "INT8", "INT8", 144), Layer("head;2", "FULLY_CONNECTED", "FLOAT32", "INT8", 9)]
    with pytest.raises(PassError, match=r"1 of 2 layers stayed in float: head;2 \(FULLY_CONNECTED\)\."):
        _census(layers, "int8", [])
    assert _census(layers, "int8", ["head"]) == []
    hybrid = [Layer("stem;1", "CONV_2D", "INT8", "FLOAT32", 144)]
    assert _census(hybrid, "dynamic", []) == []
    with pytest.raises(PassError, match="stem;1"):
        _census(hybrid, "int8", [])
    with pytest.raises(PassError, match="no layer can have 4-bit weights"):
        _census(hybrid, "weights4", [])


def test_an_operator_that_cannot_be_converted_is_named(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4])]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"])], "g", value, result)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    with pytest.raises(PassError, match=r"LiteRT's converter cannot convert this network \(as it is: .*Det"):
        load_pass(PassSpec("convert_litert", {})).apply(
            tmp_path / "n.onnx", tmp_path / "made.tflite", PassContext(tmp_path)
        )


def test_the_shipped_recipes_can_be_read():
    from pathlib import Path

    import edgeopt_targets.convert
    from edgeopt.passes.recipe_files import read_recipes

    recipes = read_recipes(Path(edgeopt_targets.convert.__file__).with_name("recipes.yaml"))
    formats = {named.recipe.passes[-1].name for named in recipes}
    assert formats == {"convert_litert", "convert_ncnn", "convert_mnn", "convert_executorch"}
    assert json.dumps([named.recipe.name for named in recipes]).count("litert-") == 7
