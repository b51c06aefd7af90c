"""Initial states of zeros are taken away, others stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.zero_states import drop_zero_states
from edgeopt.passes.simplify import Options, Simplify
from support.recurrent_graphs import FEATURES, FRAMES, recurrent_onnx, zero_states


def outputs(path: Path, **more: np.ndarray) -> np.ndarray:
    frames = np.random.default_rng(1).standard_normal((FRAMES, 3, FEATURES)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": frames, **more})[0]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_what_exporters_build_at_run_time_goes_and_the_outputs_stay(kind: str, tmp_path: Path):
    nodes, state, constants = zero_states()
    source = recurrent_onnx(tmp_path / "n.onnx", kind=kind, states=nodes, state=state, constants=constants)
    Simplify(Options()).apply(source, tmp_path / "s.onnx", PassContext(tmp_path))
    found = onnx.load(tmp_path / "s.onnx")
    assert [node.op_type for node in found.graph.node] == [kind]
    assert list(found.graph.node[0].input) == ["x", "W", "R", "B"]
    np.testing.assert_array_equal(outputs(tmp_path / "s.onnx"), outputs(source))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("ConstantOfShape", ["shape"], ["state"]),
        helper.make_node("Constant", [], ["state"], value=numpy_helper.from_array(np.zeros((1, 3, 8), np.float32))),
    ],
    ids=["constant of shape", "constant"],
)
def test_constants_of_zero_go(node: onnx.NodeProto, tmp_path: Path):
    shape = {"shape": np.array([1, 3, 8], np.int64)}
    source = recurrent_onnx(tmp_path / "n.onnx", states=(node,), state="state", constants=shape)
    assert drop_zero_states(onnx.load(source)) == 2


@pytest.mark.parametrize("value", [0.5, -0.0])
def test_a_state_that_is_not_zero_stays(value: float, tmp_path: Path):
    nodes, state, constants = zero_states()
    constants["nothing"] = np.array(value, np.float32)
    source = recurrent_onnx(tmp_path / "n.onnx", states=nodes, state=state, constants=constants)
    before = outputs(source)
    model = onnx.load(source)
    assert drop_zero_states(model) == (0 if value else 2)
    onnx.save(model, tmp_path / "s.onnx")
    np.testing.assert_array_equal(outputs(tmp_path / "s.onnx"), before)


def test_a_state_that_the_user_gives_stays(tmp_path: Path):
    source = recurrent_onnx(tmp_path / "n.onnx", state="given", extra_input="given")
    model = onnx.load(source)
    assert drop_zero_states(model) == 0
    assert list(model.graph.node[0].input)[5:] == ["given", "given"]


def test_an_initializer_that_callers_may_replace_stays(tmp_path: Path):
    zeros = {"given": np.zeros((1, 3, 8), np.float32)}
    source = recurrent_onnx(tmp_path / "n.onnx", state="given", extra_input="given", constants=zeros)
    assert drop_zero_states(onnx.load(source)) == 0


def test_only_the_zero_one_of_two_states_goes(tmp_path: Path):
    source = recurrent_onnx(tmp_path / "n.onnx", state="given", extra_input="given")
    model = onnx.load(source)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 8), np.float32), "cell"))
    model.graph.node[0].input[6] = "cell"
    onnx.save(model, source)
    state = np.random.default_rng(2).standard_normal((1, 3, 8)).astype(np.float32)
    before = outputs(source, given=state)
    assert drop_zero_states(model) == 1
    assert list(model.graph.node[0].input)[5:] == ["given"]
    onnx.save(model, source)
    np.testing.assert_array_equal(outputs(source, given=state), before)
