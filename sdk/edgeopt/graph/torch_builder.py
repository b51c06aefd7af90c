"""What is known while a torch.fx graph grows from ONNX nodes: constants, shapes, names, who reads what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

FIXED = "fixed_"
"""Prefix of constants that are no weights, so that they are none after a round trip either."""

_LARGEST_WEIGHT = 1e4
"""Above it a constant is a mask ("minus infinity"), which must not be trained."""


@dataclass(frozen=True)
class Host:
    """A value that is a number or a flat list of numbers at run time: sizes, and what is computed from them."""

    node: fx.Node


Value = Any
"""An `fx.Node` that gives a tensor, or a `Host`."""

Shape = tuple["int | None", ...]


class Builder:
    """What is known while the graph grows.

    Attributes:
        root: Owns the submodules, parameters and buffers.
        graph: What has been made so far.
        constants: Folded tensors by ONNX name. literals: those of them that are no weights.
        shapes: Inferred shapes by ONNX name, ``None`` for dynamic sizes.
        types: Element types by ONNX name, where inferred.
        values: Computed values by ONNX name.
        readers: How often each ONNX value is read, as an output of the graph too.
        skipped: Nodes (by first output) that an earlier node took in.
        layer_names: Submodule path to ONNX node name.
    """

    def __init__(self, constants: dict[str, Any], literals: frozenset[str], opset: int) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.constants, self.literals, self.opset = constants, literals, opset
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        self.values: dict[str, Value] = {}
        self.readers: Counter[str] = Counter()
        self.consumers: dict[str, list[Any]] = {}
        self.skipped: set[str] = set()
        self.layer_names: dict[str, str] = {}
        self._paths: set[str] = set()
        self._attributes: dict[str, fx.Node] = {}

    def read_by(self, nodes: Sequence[Any], outputs: Sequence[str]) -> None:
        """Note who reads what."""
        self.readers.update(outputs)
        for node in nodes:
            self.readers.update(name for name in node.input if name)
            for name in set(node.input):
                self.consumers.setdefault(name, []).append(node)

    def only_reader(self, name: str, kind: str) -> Any | None:
        """The one node that reads a value, where it is of `kind`."""
        if self.readers[name] == 1 and name in self.consumers and self.consumers[name][0].op_type == kind:
            return self.consumers[name][0]
        return None

    def path(self, name: str) -> str:
        """A free attribute name of the root that says where it comes from."""
        plain = re.sub(r"\W+", "_", name).strip("_") or "node"
        plain = f"n_{plain}" if plain[0].isdigit() or hasattr(nn.Module, plain) else plain
        path, count = plain, 1
        while path in self._paths:
            path, count = f"{plain}_{count}", count + 1
        self._paths.add(path)
        return path

    def attribute(self, name: str) -> fx.Node:
        """A constant as a parameter (weights) or buffer (all else) of the root."""
        if name not in self._attributes:
            array = np.ascontiguousarray(self.constants[name]).reshape(self.constants[name].shape)
            tensor = torch.from_numpy(array.copy())
            weight = tensor.is_floating_point() and name not in self.literals and not name.startswith(FIXED)
            if weight and tensor.numel() > 1 and bool((tensor.abs() < _LARGEST_WEIGHT).all()):
                path = self.path(name)
                self.root.register_parameter(path, nn.Parameter(tensor))
            else:
                path = self.path(name if name.startswith(FIXED) else f"{FIXED}{name}")
                self.root.register_buffer(path, tensor)
            self._attributes[name] = self.graph.get_attr(path)
        return self._attributes[name]
