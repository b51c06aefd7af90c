"""Who makes and who reads each tensor of an ONNX graph, what is constant, and what lies behind a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
"""Operators that give something else each time: never constant, and two of them are never the same."""


class Dataflow:
    """Reads the main graph of an `onnx.ModelProto`; inner graphs (If, Loop, Scan) belong to their node.

    Sets of nodes are whole numbers, bit `i` for node `i` of the file, which makes large graphs cheap to ask.

    Args:
        model: A checked model; its nodes are in topological order.
    """

    def __init__(self, model: Any) -> None:
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in self.weights]
        self.outputs = [value.name for value in model.graph.output]
        self.reads = [tuple(dict.fromkeys(reads_of(node))) for node in self.nodes]
        self.maker = {name: number for number, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, int] = {}
        for number, names in enumerate(self.reads):
            for name in names:
                self.readers[name] = self.readers.get(name, 0) | 1 << number

    @cached_property
    def constant(self) -> int:
        """Nodes whose outputs no input changes."""
        found = 0
        for number, node in enumerate(self.nodes):
            fixed = all(name in self.weights or self._made_in(name, found) for name in self.reads[number])
            if fixed and node.op_type not in RANDOM:
                found |= 1 << number
        return found

    @cached_property
    def alive(self) -> int:
        """Nodes that some output of the graph depends on."""
        found = 0
        for number in reversed(range(len(self.nodes))):
            if any(name in self.outputs or self.readers.get(name, 0) & found for name in self.nodes[number].output):
                found |= 1 << number
        return found

    @cached_property
    def _behind(self) -> list[int]:
        """Of each node: itself and all that depends on it."""
        found = [0] * len(self.nodes)
        for number in reversed(range(len(self.nodes))):
            found[number] = 1 << number
            for name in self.nodes[number].output:
                for reader in members(self.readers.get(name, 0)):
                    found[number] |= found[reader]
        return found

    def behind(self, tensor: str) -> int:
        """Living nodes that depend on a tensor."""
        found = 0
        for reader in members(self.readers.get(tensor, 0)):
            found |= self._behind[reader]
        return found & self.alive

    def crossing(self, nodes: int) -> list[str]:
        """Tensors that are neither inputs nor constant, made outside of a set of nodes and read inside."""
        return [
            name
            for name, readers in self.readers.items()
            if readers & nodes and name in self.maker and not self._made_in(name, nodes | self.constant)
        ]

    def with_constants(self, nodes: int) -> int:
        """A set of nodes with the constant nodes that they need."""
        found = nodes
        for number in reversed(range(len(self.nodes))):
            if found >> number & 1:
                for name in self.reads[number]:
                    if self._made_in(name, self.constant):
                        found |= 1 << self.maker[name]
        return found

    def _made_in(self, name: str, nodes: int) -> bool:
        return name in self.maker and bool(nodes >> self.maker[name] & 1)


def members(nodes: int) -> Iterator[int]:
    """Numbers of the nodes in a set, in the order of the file."""
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest


def reads_of(node: Any) -> Iterator[str]:
    """Names that a node reads: its inputs, and what its inner graphs take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from _captured(inner)


def _captured(graph: Any) -> Iterator[str]:
    """What an inner graph reads and does not define."""
    own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    own |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        yield from (name for name in reads_of(node) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)
