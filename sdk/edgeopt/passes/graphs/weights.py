"""The constant weights of an ONNX graph, and along which axes their output channels lie."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"}) | RECURRENT
"""Operators that have weights; of Gather the table that it looks up (an embedding)."""


@dataclass(frozen=True)
class Weight:
    """A constant float32 weight of two dimensions or more.

    Attributes:
        name: Of the initialiser.
        node: Name of the first node that reads it.
        axes: Those that have a scale for each index: the output channels, and directions or batches where there are.
    """

    name: str
    node: str
    axes: tuple[int, ...]


def constant_weights(model: Any, keep: Collection[str] = ()) -> tuple[Weight, ...]:
    """Weights in the order of the graph, each once; those that a node in `keep` reads are left out."""
    sizes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1}
    kept = {name for node in model.graph.node if node.name in keep for name in node.input}
    found: dict[str, Weight] = {}
    for node in model.graph.node:
        for index, name in _weights_of(node):
            rank = sizes.get(name, 0)
            if rank >= 2 and name not in kept and name not in found:
                found[name] = Weight(name, node.name, _axes(node, index, rank))
    return tuple(found.values())


def _weights_of(node: Any) -> Iterator[tuple[int, str]]:
    """Inputs that hold weights, by index."""
    if node.op_type not in OPERATORS:
        return
    places = {"Gather": (0,), "MatMul": (0, 1), "Gemm": (0, 1)}.get(node.op_type, (1,))
    if node.op_type in RECURRENT:
        places = (1, 2)
    yield from ((index, node.input[index]) for index in places if index < len(node.input))


def _axes(node: Any, index: int, rank: int) -> tuple[int, ...]:
    """Gemm and MatMul: all but the one that is summed over. Others: where ONNX puts output channels."""
    if node.op_type in ("Gemm", "MatMul"):
        transposed = {entry.name: entry.i for entry in node.attribute}.get("transB" if index else "transA", 0)
        summed = rank - 2 if bool(index) != bool(transposed) else rank - 1
        return tuple(axis for axis in range(rank) if axis != summed)
    if node.op_type in RECURRENT:
        return (0, 1)
    return (1,) if node.op_type == "ConvTranspose" else (0,)
