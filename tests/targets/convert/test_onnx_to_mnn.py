"""MNN files of trained networks: right, smaller where asked, the same bytes again; failures told in one sentence."""

from __future__ import annotations

import pytest

from edgeopt.errors import PassError
from edgeopt.testing.passes import CHECKS, Case
from support.converting import converted
from support.trained import trained

LEAST = {"float": 0.9999, "half": 0.9999, "weights8": 0.999, "weights4": 0.97}
SHARE = {"float": 1.2, "half": 0.85, "weights8": 0.75, "weights4": 0.65}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    made = trained("depthwise")
    check(Case("convert_mnn", made.network, made.calibration, tmp_path, {"precision": "weights8"}))


@pytest.mark.parametrize(
    ("network", "precision"),
    [("residual", "float"), ("depthwise", "weights4"), ("transformer", "weights8"), ("recurrent", "half")],
)
def test_trained_networks_keep_their_accuracy(network, precision, tmp_path):
    original = trained(network)
    made = converted("convert_mnn", original, tmp_path, tmp_path, precision=precision)
    assert made.cosine > LEAST[precision]
    assert made.top1 > original.top1 - 0.02
    assert made.path.stat().st_size < SHARE[precision] * original.network.stat().st_size


def test_a_file_that_is_no_network_is_refused_with_what_the_converter_said(tmp_path):
    from edgeopt_targets.convert.mnn_step import convert

    (tmp_path / "noise.onnx").write_bytes(b"noise" * 100)
    with pytest.raises(PassError, match=r"made no file: .*onnx"):
        convert(str(tmp_path / "noise.onnx"), str(tmp_path / "made.mnn"), "float", "{}")


def test_a_network_whose_weights_cannot_shrink_is_told(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    from edgeopt_targets.convert.mnn_step import convert

    with pytest.raises(PassError, match="changed nothing"):
        convert(str(tmp_path / "n.onnx"), str(tmp_path / "made.mnn"), "weights8", "{}")


def test_single_layers_cannot_stay_in_float(tmp_path):
    with pytest.raises(PassError, match="cannot keep single layers in float: /head"):
        converted("convert_mnn", trained("depthwise"), tmp_path, tmp_path, keep=("/head",))
