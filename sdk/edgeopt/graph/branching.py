"""Whether a network takes equally long for every input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.graph.inspect import all_nodes

LAYERS = ("Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention")
"""What takes time; names of quantised and fused operators contain one of them."""


def varies_by_input(path: Path) -> bool:
    """Whether layers of an ONNX file are inside an `If`, `Loop` or `Scan`, so that its data decide if they run."""
    import onnx

    return any(_holds_layers(node) for node in onnx.load(path, load_external_data=False).graph.node)


def _holds_layers(node: Any) -> bool:
    graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    kinds = (inner.op_type for graph in graphs for inner in all_nodes(graph))
    return any(layer in kind for kind in kinds for layer in LAYERS)
