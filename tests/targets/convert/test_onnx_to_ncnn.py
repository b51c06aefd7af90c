"""ncnn files of trained networks: right, half the size where asked; a batch and free sizes are told.

A conversion and two evaluations take half a minute, so all networks but one are under `long`.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.session import open_session
from edgeopt.passes._base import PassContext
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_runner.protocol.samples import write_samples
from support.converting import converted
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    made = trained("depthwise")
    check(Case("convert_ncnn", made.network, made.calibration, tmp_path, {"precision": "half"}))


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        ("depthwise", "float"),
        pytest.param("residual", "half", marks=pytest.mark.long),
        pytest.param("transformer", "float", marks=pytest.mark.long),
        pytest.param("recurrent", "half", marks=pytest.mark.long),
    ],
)
def test_trained_networks_keep_their_accuracy(network, precision, tmp_path):
    original = trained(network)
    made = converted("convert_ncnn", original, tmp_path, tmp_path, precision=precision)
    assert made.cosine > 0.9999
    assert made.top1 == pytest.approx(original.top1, abs=0.005)
    assert made.path.stat().st_size < {"float": 1.0, "half": 0.52}[precision] * original.network.stat().st_size


def linear(path, sizes):
    """y = x W over the last dimension, of given sizes."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "xy"]
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def apply(source, work, calibration=None):
    load_pass(PassSpec("convert_ncnn")).apply(source, work / "made.ncnn", PassContext(work, calibration=calibration))


def test_a_batch_of_several_is_refused(tmp_path):
    with pytest.raises(PassError, match=r"no dimension for the batch, but x: float32\[8,4\]"):
        apply(linear(tmp_path / "n.onnx", [8, 4]), tmp_path)


def test_free_sizes_are_taken_from_the_samples_or_asked_for(tmp_path):
    source = linear(tmp_path / "n.onnx", ["batch", "length", 4])
    with pytest.raises(PassError, match="free sizes") as caught:
        apply(source, tmp_path)
    assert "--calibration" in caught.value.remedy
    write_samples(str(tmp_path / "samples.npz"), {"input:x": np.zeros((2, 1, 6, 4), np.float32)})
    apply(source, tmp_path, tmp_path / "samples.npz")
    (found,) = open_session(tmp_path / "made.ncnn").run(["y"], {"x": np.ones((1, 6, 4), np.float32)})
    assert found.shape == (1, 6, 4)


def test_an_operator_that_ncnn_lacks_is_named_for_every_form_that_was_tried(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    node = helper.make_node("Det", ["x"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    graph.input[0].type.tensor_type.shape.dim.add().dim_value = 4
    del graph.output[0].type.tensor_type.shape.dim[1]
    path = tmp_path / "n.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(
        PassError, match=r"ncnn cannot convert this network \(as it is: .*; written anew by torch: .*Det"
    ):
        apply(path, tmp_path)
