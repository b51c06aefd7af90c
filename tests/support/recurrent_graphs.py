"""ONNX files with one recurrent layer, built by hand: initial states in every way that exporters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAMES, FEATURES = 6, 5
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent_onnx(
    path: Path,
    *,
    kind: str = "LSTM",
    hidden: int = 8,
    directions: int = 1,
    weights: np.ndarray | None = None,
    states: tuple[onnx.NodeProto, ...] = (),
    state: str = "",
    constants: dict[str, np.ndarray] | None = None,
    extra_input: str = "",
) -> Path:
    """x [frames, batch, features] → y [frames, directions, batch, hidden].

    Args:
        path: The file to write.
        kind: ``LSTM``, ``GRU`` or ``RNN``.
        hidden: Width of the state.
        directions: 1, or 2 for both.
        weights: Of the inputs; drawn from seed 0 by default. The recurrent ones always are.
        states: Nodes that make the initial states.
        state: Name of the initial states (of both of an LSTM).
        constants: Further initializers.
        extra_input: Name of a second input of the graph, with the shape of a state.
    """
    rows, draw = _GATES[kind] * hidden, np.random.default_rng(0)
    given = draw.uniform(-0.4, 0.4, (directions, rows, FEATURES)).astype(np.float32) if weights is None else weights
    arrays = {"W": given, "R": draw.uniform(-0.4, 0.4, (directions, rows, hidden)).astype(np.float32)}
    arrays |= {"B": draw.uniform(-0.2, 0.2, (directions, 2 * rows)).astype(np.float32), **(constants or {})}
    inputs = ["x", "W", "R", "B", "", state, state] if kind == "LSTM" else ["x", "W", "R", "B", "", state]
    direction = "bidirectional" if directions == 2 else "forward"
    node = helper.make_node(kind, inputs, ["y"], name="layer", hidden_size=hidden, direction=direction)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [FRAMES, "batch", FEATURES])]
    if extra_input:
        shape = [directions, "batch", hidden]
        values.append(helper.make_tensor_value_info(extra_input, TensorProto.FLOAT, shape))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [FRAMES, directions, "batch", hidden])
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([*states, node], "recurrent", values, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def zero_states(hidden: int = 8) -> tuple[tuple[onnx.NodeProto, ...], str, dict[str, np.ndarray]]:
    """Zeros for as many sequences as there are, as both exporters of torch make them: nodes, name, constants."""
    nodes = (
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "one"], ["batch"]),
        helper.make_node("Concat", ["two", "batch", "width"], ["shape"], axis=0),
        helper.make_node("Expand", ["nothing", "shape"], ["expanded"]),
        helper.make_node("Slice", ["expanded", "start", "one", "start"], ["first"]),
        helper.make_node("Identity", ["first"], ["state"]),
    )
    whole = {"one": [1], "two": [2], "width": [hidden], "start": [0]}
    constants = {name: np.array(value, np.int64) for name, value in whole.items()}
    return nodes, "state", {**constants, "nothing": np.zeros((), np.float32)}
