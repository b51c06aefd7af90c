"""Initial states of recurrent layers that are zero and need not be given: ONNX takes zeros where there are none.

PyTorch's exporters build them for the batch at run time (Shape, Concat, Expand, Slice), which OnnxSlim cannot fold and
runtimes compute again for each sample: 8 % of the latency of a small LSTM.
"""

from __future__ import annotations

from typing import Any

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Places of the initial states among the inputs."""

_MOVES = frozenset(
    {"Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators whose output holds nothing but values of their first input."""


def drop_zero_states(model: Any) -> int:
    """Take away initial states that are zero whatever the inputs; what made them is left for others to remove.

    Args:
        model: `onnx.ModelProto`, changed in place; its main graph is looked at.

    Returns:
        The number of states taken away.
    """
    zeros = _Zeros(model)
    dropped = 0
    for node in model.graph.node:
        for place in _STATES.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and zeros.has(node.input[place]):
                node.input[place] = ""
                dropped += 1
        while node.op_type in _STATES and node.input and not node.input[-1]:
            node.input.pop()
    return dropped


class _Zeros:
    """Knows which tensors hold nothing but zeros."""

    def __init__(self, model: Any) -> None:
        self._known: dict[str, bool] = {}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._maker = {name: node for node in model.graph.node for name in node.output if name}
        overridable = {value.name for value in model.graph.input}
        for name in overridable & self._weights.keys():
            del self._weights[name]

    def has(self, name: str) -> bool:
        """Whether a tensor is zero everywhere."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name: str) -> bool:
        from onnx import numpy_helper

        if name in self._weights:
            return not numpy_helper.to_array(self._weights[name]).any()
        node = self._maker.get(name)
        if node is None:
            return False
        if node.op_type in _MOVES:
            return self.has(node.input[0])
        if node.op_type == "Concat":
            return all(self.has(part) for part in node.input)
        if node.op_type in ("Constant", "ConstantOfShape"):
            return _zero_value(node)
        return False


def _zero_value(node: Any) -> bool:
    """Whether a constant is zero; one of a shape is where it names no value."""
    from onnx import helper, numpy_helper

    values = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if "value" in values:
        return not numpy_helper.to_array(values["value"]).any()
    if node.op_type == "ConstantOfShape":
        return True
    return bool(values.get("value_float", values.get("value_int", 1)) == 0)
