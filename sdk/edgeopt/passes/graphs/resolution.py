"""Makes the rest of a network take a smaller picture: every node is tried on it, and sizes written into it are adapted.

Adapted are: pooling over what was the whole map (made global), constant shapes of Reshape, and constants with a spatial
size, interpolated as Dosovitskiy et al. do it with position embeddings (An Image is Worth 16x16 Words, 2021, §3.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeopt.errors import PassError
from edgeopt.passes.graphs.layers import attribute

Shape = tuple[int, ...]
_GLOBAL = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}
_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div"})
_PREFIXES = (0, 1, 2)
"""Tokens before those of the picture: none, a class token, class and distillation tokens."""


def adapt(model: Any, feed: Mapping[str, Any], before: Mapping[str, Shape]) -> tuple[str, ...]:
    """Adapt a network whose picture has become smaller, node by node.

    Args:
        model: The network with the smaller picture; changed.
        feed: One sample.
        before: Shapes of all tensors of the network as it was, for the same sample.

    Returns:
        What was adapted, one phrase a node.

    Raises:
        PassError: A node forbids it, or an output would change its shape; names it.
    """
    walk = _Walk(model, feed, before)
    for node in list(model.graph.node):
        walk.step(node)
    for output in model.graph.output:
        found = walk.values[output.name].shape
        if found != before[output.name]:
            raise PassError(
                f"output {output.name!r} would have shape {list(found)} instead of {list(before[output.name])}.",
                remedy="The resolution can only shrink where the outputs have no spatial size.",
            )
    return tuple(walk.notes)


class _Walk:
    """Values of one sample at the new size; `step` adapts a node where it must and runs it."""

    def __init__(self, model: Any, feed: Mapping[str, Any], before: Mapping[str, Shape]) -> None:
        self.notes: list[str] = []
        self.values: dict[str, Any] = dict(feed)
        self._model, self._before = model, before
        for tensor in model.graph.initializer:
            self.values[tensor.name] = onnx.numpy_helper.to_array(tensor)
        self._constants = {tensor.name for tensor in model.graph.initializer}
        self._grids: dict[Shape, Shape] = {}

    def step(self, node: Any) -> None:
        """Adapt one node and run it."""
        if any(entry.HasField("g") for entry in node.attribute):
            raise PassError(f"{node.op_type} {node.name!r} holds a network of its own, which is not looked into.")
        if all(not name or name in self._constants for name in node.input):
            self._constants.update(node.output)
        elif node.op_type in _GLOBAL:
            self._make_global(node)
        elif node.op_type == "Reshape" and node.input[1] in self._constants:
            self._reshape(node)
        elif node.op_type in _BROADCASTING:
            self._interpolate(node)
        try:
            found = _run_node(self._model, node, self.values)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise PassError(
                f"{node.op_type} {node.name!r} does not work with the smaller picture: its inputs are now "
                f"{self._shapes(node, self._now)}, they were {self._shapes(node, self._before.get)}.",
                remedy="A size is written into the network there; export it with global or adaptive pooling.",
            ) from error
        self.values.update(found)
        for name, value in found.items():
            if value.ndim >= 3 and name in self._before:
                self._grids[self._before[name][2:]] = value.shape[2:]

    def _now(self, name: str) -> Any:
        return self.values[name].shape

    def _shapes(self, node: Any, shape_of: Any) -> str:
        return ", ".join(str(list(shape_of(name) or ())) for name in node.input if name and name not in self._constants)

    def _changed(self, name: str) -> bool:
        return name in self._before and self._now(name) != self._before[name]

    def _make_global(self, node: Any) -> None:
        """Pooling over the whole map stays pooling over the whole map."""
        name = node.input[0]
        whole = tuple(attribute(node, "kernel_shape", ())) == self._before[name][2:]
        if not (self._changed(name) and whole and not any(attribute(node, "pads", [0]))):
            return
        if set(self._before[node.output[0]][2:]) != {1} or len(node.output) > 1:
            return
        self.notes.append(f"{node.name} pools globally")
        node.op_type = _GLOBAL[node.op_type]
        del node.attribute[:]

    def _reshape(self, node: Any) -> None:
        """Write the new sizes into a constant shape, where it is plain which of its entries they are."""
        name, target = node.input[0], [int(size) for size in self.values[node.input[1]]]
        if not self._changed(name):
            return
        adapted = reshaped(target, self._before[node.output[0]], self._before[name], self._now(name))
        if adapted is None:
            raise PassError(
                f"Reshape {node.name!r} has the constant shape {target}, which does not fit the smaller picture: its "
                f"input is now {list(self._now(name))}, it was {list(self._before[name])}."
            )
        if adapted != target:
            self._replace(node, 1, np.array(adapted, dtype=np.int64))
            self.notes.append(f"{node.name} reshapes to {adapted}")

    def _interpolate(self, node: Any) -> None:
        """Resample a constant that has the old spatial size."""
        constant = next((index for index in (0, 1) if node.input[index] in self._constants), None)
        if constant is None or not self._changed(node.input[1 - constant]):
            return
        other = node.input[1 - constant]
        values, old, new = self.values[node.input[constant]], self._before[other], self._now(other)
        axes = [
            axis
            for axis in range(-min(values.ndim, len(old), len(new)), 0)
            if values.shape[axis] == old[axis] != new[axis] and values.shape[axis] > 1
        ]
        if not axes or values.dtype.kind != "f":
            return
        if len(axes) == 1 and (grid := self._grid(old[axes[0]], new[axes[0]])):
            made = _resample_tokens(values, axes[0], *grid)
        else:
            made = values
            for axis in axes:
                made = _resample(made, axis, new[axis])
        self._replace(node, constant, made.astype(values.dtype))
        self.notes.append(f"{node.name}'s constant was interpolated to {list(made.shape)}")

    def _grid(self, old: int, new: int) -> tuple[Shape, Shape] | None:
        """The pictures that so many tokens are made of, with their prefix left out."""
        for prefix in _PREFIXES:
            for before, after in self._grids.items():
                if len(before) == 2 and math.prod(before) == old - prefix and math.prod(after) == new - prefix:
                    return before, after
        return None

    def _replace(self, node: Any, index: int, value: Any) -> None:
        name = f"{node.name or node.output[0]}/resized_{index}"
        self._model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        self.values[name] = value
        self._constants.add(name)
        node.input[index] = name


def _run_node(model: Any, node: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """One node by itself."""
    fed = {name: values[name] for name in node.input if name}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in fed.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "node", inputs, outputs)
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(alone.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in outputs]
    return dict(zip(names, session.run(names, fed), strict=True))


def reshaped(target: Sequence[int], result: Shape, old: Shape, new: Shape) -> list[int] | None:
    """A Reshape's constant for an input that became smaller.

    Args:
        target: The constant; may hold -1 and 0.
        result: The output's shape as it was.
        old: The input's shape as it was.
        new: The input's shape now.

    Returns:
        The new constant; ``None`` where it is not plain which entries hold the sizes that changed.
    """
    changed = [axis for axis in range(len(old)) if old[axis] != new[axis]]
    tail = len(old) - changed[0]
    adapted = list(target)
    if len(result) >= tail and result[len(result) - tail :] == old[-tail:]:  # the last sizes are passed on one by one
        for back in range(1, tail + 1):
            adapted[-back] = target[-back] if target[-back] in (-1, 0) else new[-back]
        return adapted
    merged, factor = math.prod(old[axis] for axis in changed), math.prod(new[axis] for axis in changed)
    places = [index for index, size in enumerate(result) if size % merged == 0]
    exact = [index for index in places if result[index] == merged]
    if len(exact or places) != 1:
        return None
    place = (exact or places)[0]
    if target[place] != -1:
        adapted[place] = result[place] // merged * factor
    return adapted


def _resample(values: Any, axis: int, size: int) -> Any:
    """Linear interpolation along an axis, between the centres of its cells."""
    count = values.shape[axis]
    places = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    low = np.floor(places).astype(int)
    share = (places - low).reshape([-1] + [1] * (-axis - 1))
    below, above = (np.take(values, np.minimum(index, count - 1), axis) for index in (low, low + 1))
    return below * (1 - share) + above * share


def _resample_tokens(values: Any, axis: int, before: Shape, after: Shape) -> Any:
    """The same for tokens that are the cells of a grid, those before them left as they are."""
    prefix = values.shape[axis] - math.prod(before)
    head, cells = np.split(values, [prefix], axis)
    moved = np.moveaxis(cells, axis, 0)
    grid = np.moveaxis(moved.reshape(*before, *moved.shape[1:]), (0, 1), (-2, -1))
    grid = _resample(_resample(grid, -2, after[0]), -1, after[1])
    flat = np.moveaxis(grid, (-2, -1), (0, 1)).reshape(math.prod(after), *moved.shape[1:])
    return np.concatenate([head, np.moveaxis(flat, 0, axis)], axis)
