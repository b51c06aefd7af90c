from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.questions import demand_weight_share, weight_elements
from edgeopt.passes.quantise_static import Options, QuantiseStatic
from support.compressing import sample_file
from support.networks import constant, save


def network_with_embedding(path: Path) -> Path:
    """A table of 1000 x 8, looked up, in front of one MatMul of 8 x 4."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], name="product"),
    ]
    weights = [constant("table", [[0.5] * 8] * 1000), constant("w", [[0.1] * 4] * 8)]
    return save(path, nodes, {"ids": ("N", 3)}, {"y": ("N", 3, 4)}, weights, input_dtype=onnx.TensorProto.INT64)


def mostly_recurrent(path: Path) -> Path:
    """An LSTM of 32 cells, whose weights are nearly all of the network's, in front of one product."""
    weights = [
        constant("w", [[[0.01 * (i % 7)] * 16 for i in range(128)]]),
        constant("r", [[[0.01 * (i % 5)] * 32 for i in range(128)]]),
        constant("head", [[0.1]] * 32),
    ]
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "last"], name="lstm", hidden_size=32),
        helper.make_node("MatMul", ["last", "head"], ["y"], name="head"),
    ]
    return save(path, nodes, {"x": (5, 1, 16)}, {"y": (1, 1, 1)}, weights)


def test_a_table_that_is_looked_up_does_not_hide_the_products(tmp_path):
    model = onnx.load(network_with_embedding(tmp_path / "network.onnx"))

    assert weight_elements(model, {"MatMul"}) == (32, 32)
    assert demand_weight_share(model, {"MatMul"}, 0.25) == "100% of the weights"


def test_static_int8_refuses_a_network_that_it_would_leave_as_it_is(tmp_path):
    network = mostly_recurrent(tmp_path / "network.onnx")
    samples = sample_file(tmp_path / "samples.npz", network, 4)
    context = PassContext(work=tmp_path, calibration=samples)

    with pytest.raises(PassError, match=r"only 1% of the weights are in .*MatMul layers, less than the 5%"):
        QuantiseStatic(Options()).apply(network, tmp_path / "result.onnx", context)
    QuantiseStatic(Options(min_share=0.0)).apply(network, tmp_path / "result.onnx", context)
