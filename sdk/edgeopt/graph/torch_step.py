"""One ONNX node as its translation to torch sees it: inputs, attributes, what is known, and the calls it adds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, fx, nn

from edgeopt.errors import ModelError
from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_builder import Builder, Host, Shape


class Step:
    """One ONNX node, as its translation sees it."""

    def __init__(self, builder: Builder, node: Any, name: str) -> None:
        self.builder, self.node, self.name = builder, node, name
        self.opset = builder.opset
        self._attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value; strings decoded."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.node.input) and bool(self.node.input[index])

    @property
    def inputs(self) -> range:
        """Positions of the inputs."""
        return range(len(self.node.input))

    def constant(self, index: int) -> np.ndarray[Any, Any] | None:
        """An input's value where it is constant and given."""
        return self.builder.constants.get(self.node.input[index]) if self.has(index) else None

    def demand(self, index: int, what: str) -> np.ndarray[Any, Any]:
        """An input that has to be constant.

        Raises:
            ModelError: It is computed at run time.
        """
        value = self.constant(index)
        if value is None:
            raise self.unsupported(f"its {what} is computed at run time")
        return value

    def is_host(self, index: int) -> bool:
        """Whether an input holds sizes."""
        return isinstance(self.builder.values.get(self.node.input[index]), Host)

    def host(self, index: int) -> Any:
        """An input as a number or list: an fx node, or plain Python where it is constant."""
        constant = self.constant(index)
        if constant is not None:
            return constant.tolist()
        value = self.builder.values[self.node.input[index]]
        if isinstance(value, Host):
            return value.node
        return self.call(torch_shapes.from_tensor, value)

    def number_or_tensor(self, index: int, rank: int | None = None) -> Any:
        """An operand of arithmetic: a plain number for a constant of one element, else a tensor.

        Args:
            index: Which input.
            rank: Rank of the other operand: the number must not have more dimensions, as those would be lost.
        """
        constant = self.constant(index)
        if constant is not None and constant.size == 1 and constant.ndim <= (rank or 0):
            return constant.item()
        value = self.builder.values.get(self.node.input[index])
        if isinstance(value, Host) and (self.shape(index) == () or (self.shape(index) == (1,) and rank)):
            return self.call(torch_shapes.as_number, value.node)
        return self.tensor(index)

    def tensor(self, index: int) -> fx.Node:
        """An input as a tensor."""
        name = self.node.input[index]
        if name in self.builder.constants:
            return self.builder.attribute(name)
        value = self.builder.values[name]
        if isinstance(value, Host):
            return self.call(torch_shapes.to_tensor, value.node)
        return value

    def shape(self, index: int) -> Shape | None:
        """Inferred shape of an input, ``None`` where not even the rank is known."""
        constant = self.constant(index)
        return constant.shape if constant is not None else self.builder.shapes.get(self.node.input[index])

    def index(self, index: int, axis: int) -> fx.Node:
        """An input that picks along `axis` of the first: torch counts from the start alone.

        Raises:
            ModelError: Constants count from the end of something whose size is not known.
        """
        picked, name = self.constant(index), self.node.input[index]
        if picked is None or not (picked < 0).any():
            return self.tensor(index)
        size = (self.shape(0) or {axis: None})[axis]
        if size is None:
            raise self.unsupported("it counts from the end of an axis whose size is not known")
        self.builder.constants[f"{name}_of_{size}"] = np.where(picked < 0, picked + size, picked)
        return self.builder.attribute(f"{name}_of_{size}")

    def has_type(self, index: int, kind: int) -> bool:
        """Whether an input is known to be of an ONNX element type."""
        return self.builder.types.get(self.node.input[index]) == kind

    def rank(self, index: int) -> int | None:
        """Inferred rank of an input."""
        shape = self.shape(index)
        return None if shape is None else len(shape)

    def shape_of_output(self) -> Shape | None:
        """Inferred shape of the first output."""
        return self.builder.shapes.get(self.node.output[0])

    def is_whole(self, index: int) -> bool:
        """Whether an input is a tensor of at most one dimension that was made of integers at run time."""
        return self.rank(index) is not None and (self.rank(index) or 0) <= 1

    def item(self, parts: fx.Node, index: int) -> fx.Node:
        """One of several results."""
        return self.call(operator.getitem, parts, index)

    def axes(self, index: int, default: Sequence[int] | None = None) -> list[int] | None:
        """Axes: an attribute in old opsets, an input in later ones."""
        if self.has(index):
            return [int(axis) for axis in self.demand(index, "list of axes").reshape(-1)]
        value = self.attribute("axes", default)
        return None if value is None else list(value)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A call of a function that is imported by name; our own stay whole when the graph is traced again."""
        node = self.builder.graph.call_function(function, args, kwargs)
        node.meta["onnx"] = (self.name, self.node.op_type)
        if (function.__module__ or "").startswith("edgeopt."):
            node.meta["is_wrapped"] = True
        return node

    def module(self, module: nn.Module, *args: Any) -> fx.Node:
        """A call of a submodule, which is named after the ONNX node."""
        path = self.builder.path(self.name)
        self.builder.root.add_module(path, module)
        self.builder.layer_names[path] = self.name
        node = self.builder.graph.call_module(path, args)
        node.meta["onnx"] = (self.name, self.node.op_type)
        return node

    def take_in(self, node: Any) -> None:
        """Let this node stand for a later one too: its output becomes that one's."""
        self.builder.skipped.add(node.output[0])
        self.node = _with_output(self.node, node.output[0])

    def unsupported(self, reason: str = "") -> ModelError:
        """The error for what cannot be trained or changed as a torch network."""
        kind = self.node.op_type if self.node.domain in ("", "ai.onnx") else f"{self.node.domain}.{self.node.op_type}"
        return ModelError(
            f"operator {kind} of node {self.name} cannot be taken into torch{f': {reason}' if reason else ''}.",
            remedy="Passes that train cannot work on this network; give the torch network or export it without it.",
        )


def _with_output(node: Any, name: str) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = name
    return copy


Translation = Callable[[Step], Any]
"""Gives an `fx.Node` or `Host` for one output, a tuple of them for several."""


def parameter(array: np.ndarray[Any, Any] | Tensor) -> nn.Parameter:
    """A trainable copy."""
    tensor = torch.from_numpy(np.array(array)) if isinstance(array, np.ndarray) else array.clone()
    return nn.Parameter(tensor.contiguous())
