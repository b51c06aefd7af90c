from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.prepare import opset_of, prepare
from edgeopt.passes.make import make_variant
from edgeopt.passes.quantise_static import _demand_opset
from support.compressing import make_context
from support.networks import constant, save

INT8 = Recipe("int8", (PassSpec("simplify"), PassSpec("quantise_static")), "int8")


def old_cnn(path: Path) -> Path:
    """A convolution and a product in opset 11, whose Squeeze still has its axes as an attribute."""
    rng = np.random.default_rng(0)
    weights = [
        constant("w", rng.standard_normal((8, 3, 3, 3)) * 0.2),
        constant("head", rng.standard_normal((8, 10)) * 0.4),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Squeeze", ["p"], ["s"], name="squeeze", axes=[2, 3]),
        helper.make_node("MatMul", ["s", "head"], ["y"], name="head"),
    ]
    return save(path, nodes, {"x": ("N", 3, 12, 12)}, {"y": ("N", 10)}, weights, opset=11)


def test_a_network_of_opset_11_becomes_int8_by_channel(tmp_path):
    network = old_cnn(tmp_path / "old.onnx")

    made = make_variant(network, INT8, make_context(tmp_path, network))

    model = onnx.load(made.path)
    assert opset_of(model) == 13
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    assert any(len(tensor.dims) == 1 and tensor.name.endswith("_scale") for tensor in model.graph.initializer)
    assert made.parity.cosine > 0.99


def test_a_network_that_stayed_old_is_told_what_to_do(tmp_path):
    model = onnx.load(old_cnn(tmp_path / "old.onnx"))

    with pytest.raises(PassError, match="int8 needs opset 13; the network has 11") as caught:
        _demand_opset(model)
    assert "Export it again" in (caught.value.remedy or "")


def test_a_newer_network_keeps_its_opset(tmp_path):
    network = old_cnn(tmp_path / "network.onnx")
    model = onnx.version_converter.convert_version(onnx.load(network), 17)
    onnx.save(model, network)

    assert opset_of(onnx.load(prepare(network, PassContext(work=tmp_path)))) == 17
