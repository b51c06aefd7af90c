"""Questions that several passes ask an ONNX graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from edgeopt.errors import PassError

LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND"})
"""What reads rows of a table and computes nothing: an embedding's size says nothing on where time goes."""


def weight_elements(model: Any, operators: Collection[str]) -> tuple[int, int]:
    """Elements of constant float weights (two dimensions or more) behind `operators`, and behind all operators.

    Tables that are only looked up (embeddings) do not count.
    """
    sizes = {
        tensor.name: _elements(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type in (1, 10) and len(tensor.dims) >= 2
    }
    used: dict[str, bool] = {}
    for node in model.graph.node:
        for name in node.input:
            if name in sizes and node.op_type not in LOOKUPS:
                used[name] = used.get(name, False) or node.op_type in operators
    return sum(sizes[name] for name, hit in used.items() if hit), sum(sizes[name] for name in used)


def _elements(tensor: Any) -> int:
    product = 1
    for size in tensor.dims:
        product *= size
    return product


def demand_weight_share(model: Any, operators: Collection[str], min_share: float) -> str:
    """Check that enough of the weights is behind `operators`; the share in words.

    Raises:
        PassError: No such weights, or so few that the result would be the same network.
    """
    hit, total = weight_elements(model, operators)
    kinds = "/".join(sorted(operators))
    if not hit:
        raise PassError(f"the network has no {kinds} with constant weights, which is all that this pass can compress.")
    share = hit / total
    if share < min_share:
        raise PassError(
            f"only {share:.0%} of the weights are in {kinds} layers, less than the {min_share:.0%} that are worth it.",
            remedy="Static int8 compresses convolutions, dynamic int8 LSTM; GRU have float16 alone.",
        )
    return f"{share:.0%} of the weights"


def save_sorted(model: Any, path: Path) -> None:
    """Write a model with its nodes in topological order, which ONNX demands and graph-rewriting tools forget."""
    import onnx

    nodes = list(model.graph.node)
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = {index: {producers[name] for name in reads(node) if name in producers} for index, node in enumerate(nodes)}
    order = list(TopologicalSorter(needs).static_order())
    del model.graph.node[:]
    model.graph.node.extend(nodes[index] for index in order)
    onnx.save(model, path)


def reads(node: Any) -> Iterator[str]:
    """Tensors that a node reads, those that its subgraphs take from outside included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from reads(inner)


def with_rewritten_gemm(names: Iterable[str]) -> list[str]:
    """The names, and those that ONNX Runtime gives the MatMul that it makes of a Gemm."""
    return [form for name in names for form in (name, f"{name}_MatMul")]


def demand_nodes(model: Any, names: Iterable[str], option: str = "keep_float") -> None:
    """Check that nodes which an option names exist.

    Raises:
        PassError: Names one that does not.
    """
    known = {node.name for node in model.graph.node}
    missing = sorted(set(names) - known)
    if missing:
        raise PassError(f"{option} names {missing[0]!r}, which is not a node of the network at this step.")


def census(path: Path) -> dict[str, int]:
    """How often each operator occurs, and each element type (``INT8``, ``FLOAT16``, ...) among weights.

    Weights are constants of two dimensions or more: scales and zero points prove nothing.
    """
    import onnx

    counts: dict[str, int] = {}
    model = onnx.load(path)
    names = onnx.TensorProto.DataType
    found = [node.op_type for node in model.graph.node]
    found += [names.Name(tensor.data_type) for tensor in model.graph.initializer if len(tensor.dims) >= 2]
    for name in found:
        counts[name] = counts.get(name, 0) + 1
    return counts
