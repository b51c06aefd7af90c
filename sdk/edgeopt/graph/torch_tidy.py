"""Tidies what a torch exporter wrote: constants computed, dead nodes gone, nodes under the names they had before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import numpy_helper

from edgeopt.graph.export import without_traces
from edgeopt.graph.torch_constants import Folded
from edgeopt.graph.torch_simplify import simplify

_SAME = {"Gemm": "MatMul", "Gelu": "Erf"}
"""One linear layer is written as either, by the rank of its input; GELU has no operator before opset 20."""


def tidy(model: Any) -> Folded:
    """Turn constant parts to initialisers and take out what nobody reads; batch normalisation and the like stay.

    Args:
        model: In memory; it is changed.

    Returns:
        The same split in constants and what runs.
    """
    without_traces(model)
    simple = simplify(model)
    read = {name for node in simple.nodes for name in node.input} | {value.name for value in model.graph.output}
    constants = [
        numpy_helper.from_array(np.require(value, requirements="C"), name)
        for name, value in simple.values.items()
        if name in read
    ]
    nodes = list(simple.nodes)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    return simple


def rename(model: Any, scopes: Mapping[str, tuple[str, str]]) -> None:
    """Give nodes the names that they had in the file that the network came from.

    Args:
        model: Exported; its nodes are called ``/scope/…``.
        scopes: Scope (path of the submodule that was called) to name and operator of the node that it stands for.
    """
    members: dict[str, list[Any]] = {}
    for node in model.graph.node:
        members.setdefault(node.name.split("/")[1] if node.name.startswith("/") else "", []).append(node)
    used: Counter[str] = Counter()
    for scope, nodes in members.items():
        if scope in scopes:
            _rename_scope(nodes, *scopes[scope])
    for node in model.graph.node:
        used[node.name] += 1
        if used[node.name] > 1 or not node.name:
            node.name = _free(node.name or node.op_type, used)


def _rename_scope(nodes: Sequence[Any], name: str, kind: str) -> None:
    alike = [node for node in nodes if _SAME.get(node.op_type, node.op_type) == _SAME.get(kind, kind)]
    main = alike[0] if alike else nodes[0] if len(nodes) == 1 else None
    for node in nodes:
        rest = node.name.split("/", 2)[2]
        node.name = name if node is main else f"{name}/{rest}"


def _free(name: str, used: Counter[str]) -> str:
    count = 1
    while used[f"{name}_{count}"]:
        count += 1
    used[f"{name}_{count}"] += 1
    return f"{name}_{count}"


def rename_values(model: Any, names: Mapping[str, str]) -> None:
    """Give values other names; what else had one of these names gets another."""
    graph = model.graph
    taken = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    full = {name: f"{name}_inner" for name in taken.intersection(names.values()) - set(names)} | dict(names)
    for node in graph.node:
        node.input[:] = [full.get(name, name) for name in node.input]
        node.output[:] = [full.get(name, name) for name in node.output]
    for part in [*graph.input, *graph.output, *graph.initializer]:
        part.name = full.get(part.name, part.name)
