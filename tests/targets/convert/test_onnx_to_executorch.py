"""ExecuTorch files of trained networks: right in ExecuTorch, quantised for certain, layers kept in float by name.

They need the environment that the first use of `convert_executorch` makes (1.2 GB), and are skipped where it is not; a
conversion takes 20 s and more, so all are under `long`.
"""

from __future__ import annotations

import pytest

from edgeopt.core.recipe import PassSpec
from edgeopt.environments import is_ready
from edgeopt.errors import PassError
from edgeopt.graph.engine_process import EXECUTORCH
from edgeopt.passes._base import PassContext
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_targets.convert.executorch_census import Census, Layer
from edgeopt_targets.convert.executorch_step import _demand_integers, _notes
from support.converting import converted
from support.trained import trained

LEAST = {"float": 0.9999, "int8": 0.95}
SHARE = {"float": 1.3, "int8": 1.0}
DEADLINE = 900


@pytest.fixture
def installed(_environments) -> None:
    if not is_ready(EXECUTORCH):
        pytest.skip("ExecuTorch's environment is not here (1.2 GB; a first use of convert_executorch makes it)")


def keeps_its_accuracy(network, precision, work):
    original = trained(network)
    made = converted("convert_executorch", original, work, work, precision=precision)
    assert made.cosine > LEAST[precision]
    assert made.top1 > original.top1 - 0.02
    assert made.path.stat().st_size < SHARE[precision] * original.network.stat().st_size


@pytest.mark.long
@pytest.mark.timeout(DEADLINE)
@pytest.mark.parametrize("precision", list(LEAST))
def test_a_trained_network_keeps_its_accuracy(precision, tmp_path, installed):
    keeps_its_accuracy("depthwise", precision, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(DEADLINE)
@pytest.mark.parametrize("precision", list(LEAST))
@pytest.mark.parametrize("network", ["residual", "transformer"])
def test_other_trained_networks_keep_their_accuracy(network, precision, tmp_path, installed):
    keeps_its_accuracy(network, precision, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(DEADLINE)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path, installed):
    made = trained("depthwise")
    check(Case("convert_executorch", made.network, made.calibration, tmp_path, {"precision": "int8"}))


@pytest.mark.long
@pytest.mark.timeout(DEADLINE)
def test_a_layer_that_is_to_stay_in_float_does(tmp_path, installed):
    made = converted(
        "convert_executorch", trained("depthwise"), tmp_path, tmp_path, keep=("/head/Gemm",), precision="int8"
    )
    assert made.kept_float == ("/head/Gemm",)
    assert made.cosine > LEAST["int8"]


@pytest.mark.long
@pytest.mark.timeout(DEADLINE)
def test_a_layer_that_is_unknown_is_named(tmp_path, installed):
    with pytest.raises(PassError, match="'/no/such/node', which is not a layer"):
        converted(
            "convert_executorch", trained("depthwise"), tmp_path, tmp_path, keep=("/no/such/node",), precision="int8"
        )


def test_full_integers_ask_for_samples(tmp_path):
    step = load_pass(PassSpec("convert_executorch", {"precision": "int8"}))
    with pytest.raises(PassError, match="int8 needs calibration samples") as caught:
        step.apply(trained("depthwise").network, tmp_path / "made.pte", PassContext(tmp_path))
    assert "--calibration" in caught.value.remedy


def test_what_stays_in_float_as_a_whole_keeps_no_single_layer(tmp_path):
    step = load_pass(PassSpec("convert_executorch", {"precision": "float"}))
    with pytest.raises(PassError, match="cannot keep single layers in float: /head"):
        step.apply(
            trained("depthwise").network, tmp_path / "made.pte", PassContext(tmp_path, keep_float=("/head/Gemm",))
        )


def test_layers_that_stayed_in_float_are_an_error_that_lists_them():
    conv = Layer("/stem/Conv", "XNNConv2d", "qcint8", "qint8")
    head = Layer("/head/Gemm", "XNNFullyConnected", "fp32", "fp32")
    hybrid = Layer("/mid/Conv", "XNNConv2d", "qcint8", "fp32")
    _demand_integers(Census(4, (), (conv,)), [])
    _demand_integers(Census(4, (), (conv, head)), ["/head/Gemm"])
    with pytest.raises(PassError, match=r"1 of 2 layers stayed in float: /head/Gemm \(XNNFullyConnected\)\."):
        _demand_integers(Census(4, (), (conv, head)), [])
    with pytest.raises(PassError, match=r"/mid/Conv"):
        _demand_integers(Census(4, (), (hybrid,)), [])
    with pytest.raises(PassError, match="was to stay in float, but is no layer of its own"):
        _demand_integers(Census(4, (), (conv,)), ["/head/Gemm"])
    with pytest.raises(PassError, match="no layer with weights"):
        _demand_integers(Census(4, (), ()), [])


def test_what_runs_outside_xnnpack_is_told():
    assert _notes(Census(8, (), ())) == []
    told = _notes(Census(6, ("native_layer_norm", "native_layer_norm", "cumsum"), ()))
    assert told == ["XNNPACK runs 6 of 9 operators; portable ones run the rest (native_layer_norm 2x, cumsum 1x)"]
