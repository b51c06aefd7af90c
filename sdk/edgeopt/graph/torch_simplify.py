"""Brings a graph to the form that is read and written: constants computed, and size arithmetic as short as it can be.

Exporters ask for the same size again and again, guard a squeeze with an If, give recurrent layers states of zeros and
put shapes together that could be written down; with every way through torch there would be more of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgeopt.graph.torch_constants import Folded, fold

_SIZES = frozenset({"Shape", "Gather", "Slice", "Unsqueeze", "Squeeze", "Concat", "Cast"})
_MOVES = frozenset({"Expand", "Slice", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Identity", "Cast"})
_NONE = np.zeros(0)
_MOST_DIMENSIONS = 16
_ZERO_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def simplify(model: Any) -> Folded:
    """Constants and running nodes of a model in memory, whose nodes are changed in place."""
    folded = fold(model)
    if _resolve_branches(model, folded.values):
        folded = fold(model)
    outputs = [value.name for value in model.graph.output]
    nodes = _merged(folded.nodes, outputs)
    parts = _Parts(folded.values, {name: node for node in nodes for name in node.output})
    for node in nodes:
        if node.op_type in _ZERO_STATES:
            parts.drop_zero_states(node)
        elif node.op_type == "Reshape":
            parts.write_down_target(node)
        elif node.op_type == "Expand":
            parts.unguard_sizes(node)
    return Folded(folded.values, folded.literals, tuple(_alive(nodes, outputs)))


def _resolve_branches(model: Any, constants: Mapping[str, Any]) -> bool:
    """Put in place of an If the branch that is always taken: a constant condition, or a squeeze guarded by its size."""
    nodes: list[Any] = []
    found = False
    for node in model.graph.node:
        branch = _taken_branch(node, constants) if node.op_type == "If" else None
        if branch is None:
            nodes.append(node)
            continue
        found = True
        outputs = {inner.name: outer for inner, outer in zip(branch.output, node.output, strict=True)}
        for inner in branch.node:
            inner.output[:] = [outputs.get(name, name) for name in inner.output]
            inner.input[:] = [outputs.get(name, name) for name in inner.input]
        model.graph.initializer.extend(branch.initializer)
        nodes.extend(branch.node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return found


def _taken_branch(node: Any, constants: Mapping[str, Any]) -> Any:
    branches = {item.name: item.g for item in node.attribute}
    condition = constants.get(node.input[0])
    if condition is not None:
        return branches["then_branch" if bool(condition) else "else_branch"]
    works = {name: [n for n in graph.node if n.op_type != "Constant"] for name, graph in branches.items()}
    kinds = [[n.op_type for n in works[name]] for name in ("then_branch", "else_branch")]
    guarded = kinds == [["Squeeze"], ["Identity"]]
    if guarded and works["then_branch"][0].input[0] == works["else_branch"][0].input[0]:
        return branches["then_branch"]
    return None


def _merged(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """Of equal nodes on sizes the first."""
    first: dict[Any, Any] = {}
    renamed: dict[str, str] = {}
    kept = []
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        attributes = sorted(item.SerializeToString(deterministic=True) for item in node.attribute)
        key = (node.op_type, *node.input, *attributes)
        if node.op_type in _SIZES and key in first and node.output[0] not in outputs:
            renamed[node.output[0]] = first[key].output[0]
            continue
        first.setdefault(key, node)
        kept.append(node)
    return kept


def _alive(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1]


def _reads(node: Any) -> Iterable[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                yield from _reads(inner)


class _Parts:
    """What values are made of. New constants are added to `constants`."""

    def __init__(self, constants: dict[str, Any], producers: Mapping[str, Any]) -> None:
        self.constants, self.producers = constants, producers

    def drop_zero_states(self, node: Any) -> None:
        """Leave out initial states of zeros, which is what absent ones are."""
        if all(index >= len(node.input) or self._zero(node.input[index]) for index in _ZERO_STATES[node.op_type]):
            for index in _ZERO_STATES[node.op_type]:
                if index < len(node.input):
                    node.input[index] = ""
        while node.input and not node.input[-1]:
            node.input.pop()

    def _zero(self, name: str) -> bool:
        if not name or name in self.constants:
            return not name or not self.constants[name].any()
        node = self.producers.get(name)
        if node is None:
            return False
        if node.op_type == "ConstantOfShape":
            return not node.attribute or not numpy_helper.to_array(node.attribute[0].t).any()
        if node.op_type == "Concat":
            return all(self._zero(part) for part in node.input)
        return node.op_type in _MOVES and self._zero(node.input[0])

    def write_down_target(self, node: Any) -> None:
        """Make a target constant that is put together from sizes of the tensor itself: 0 says "as it is"."""
        maker = self.producers.get(node.input[1])
        if (
            maker is None
            or maker.op_type != "Concat"
            or any(item.name == "allowzero" and item.i for item in node.attribute)
        ):
            return
        target: list[int] = []
        for part in maker.input:
            if part in self.constants:
                target += self.constants[part].reshape(-1).tolist()
            else:
                target += self._written(part, node.input[0], len(target))
        if target.count(-1) <= 1:
            node.input[1] = self._constant(f"{node.output[0]}_target", target)

    def _written(self, part: str, data: str, place: int) -> list[int]:
        """A part of the target of `data` from `place` on: zeros where it copies, else -1; two of those if unsure."""
        node = self.producers[part]
        single = node.op_type == "Unsqueeze"
        if single:
            node = self.producers.get(node.input[0])
        shape = None if node is None or node.op_type not in ("Gather", "Slice") else self.producers.get(node.input[0])
        if shape is not None and shape.op_type == "Shape" and shape.input[0] == data and not shape.attribute:
            numbers = [
                self.constants[name].item() for name in node.input[1:] if self.constants.get(name, _NONE).size == 1
            ]
            if node.op_type == "Gather" and single and numbers == [place]:
                return [0]
            plain = len(numbers) == len(node.input) - 1 and numbers[2:] in ([], [0], [0, 1])
            if node.op_type == "Slice" and plain and numbers[0] == place < numbers[1] < _MOST_DIMENSIONS:
                return [0] * (numbers[1] - place)
        return [-1] if single else [-1, -1]

    def unguard_sizes(self, node: Any) -> None:
        """Of ``Where(sizes == -1, 1, sizes)`` keep the sizes, with 1 in place of a constant -1."""
        choice = self.producers.get(node.input[1])
        if choice is None or choice.op_type != "Where" or not self._ones(choice.input[1]):
            return
        asked = self.producers.get(choice.input[0])
        sizes = choice.input[2]
        if asked is None or asked.op_type != "Equal" or sizes not in asked.input:
            return
        maker = self.producers.get(sizes)
        if maker is not None and maker.op_type == "Reshape" and self._is(maker.input[1], [-1]):
            maker = self.producers.get(maker.input[0])
        if maker is None or maker.op_type != "Concat":
            return
        for index, part in enumerate(maker.input):
            if part in self.constants:
                values = self.constants[part]
                maker.input[index] = self._constant(
                    f"{maker.output[0]}_part_{index}", np.where(values == -1, 1, values)
                )
        node.input[1] = maker.output[0]

    def _ones(self, name: str) -> bool:
        if name in self.constants:
            return bool((self.constants[name] == 1).all())
        node = self.producers.get(name)
        return (
            node is not None
            and node.op_type == "ConstantOfShape"
            and bool(node.attribute and (numpy_helper.to_array(node.attribute[0].t) == 1).all())
        )

    def _is(self, name: str, values: list[int]) -> bool:
        return name in self.constants and self.constants[name].tolist() == values

    def _constant(self, name: str, values: Any) -> str:
        self.constants[name] = np.asarray(values, np.int64)
        return name
