"""Tidies what a torch exporter wrote: constants computed, dead nodes gone, nodes under the names they had before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import numpy_helper

from edgeopt.graph.export import without_traces
from edgeopt.graph.torch_constants import fold

_SAME = {"Gemm": "MatMul"}
"""One linear layer is written as either, by the rank of its input."""


def tidy(model: Any) -> None:
    """Turn constant parts to initialisers and take out what nobody reads; batch normalisation and the like stay."""
    without_traces(model)
    folded = fold(model)
    nodes = _merged([_without_zero_state(node, folded.nodes) for node in folded.nodes], model)
    _simplify_reshapes(nodes, folded.values)
    nodes = _alive(nodes, [value.name for value in model.graph.output])
    read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    constants = [
        numpy_helper.from_array(np.require(value, requirements="C"), name) for name, value in folded.values.items() if name in read
    ]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)


def _without_zero_state(node: Any, nodes: Sequence[Any]) -> Any:
    """A recurrent node without initial states of zeros, which is what absent ones are."""
    if node.op_type not in ("LSTM", "GRU", "RNN"):
        return node
    zeros = {other.output[0] for other in nodes if other.op_type == "ConstantOfShape" and not _filling(other).any()}
    for index in (5, 6):
        if index < len(node.input) and node.input[index] in zeros:
            node.input[index] = ""
    while node.input and not node.input[-1]:
        node.input.pop()
    return node


def _filling(node: Any) -> np.ndarray[Any, Any]:
    return numpy_helper.to_array(node.attribute[0].t) if node.attribute else np.zeros(1)


_SHAPES = frozenset("Shape Gather Slice Unsqueeze Squeeze Concat Cast".split())


def _merged(nodes: Sequence[Any], model: Any) -> list[Any]:
    """Of equal nodes on sizes the first; exporters ask for the same size again and again."""
    outputs = {value.name for value in model.graph.output}
    first: dict[Any, Any] = {}
    renamed: dict[str, str] = {}
    kept = []
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        key = (node.op_type, *node.input, *sorted(item.SerializeToString(deterministic=True) for item in node.attribute))
        if node.op_type in _SHAPES and key in first and not outputs.intersection(node.output):
            renamed[node.output[0]] = first[key].output[0]
            continue
        first.setdefault(key, node)
        kept.append(node)
    return kept


def _simplify_reshapes(nodes: Sequence[Any], constants: dict[str, Any]) -> None:
    """Write targets put together from sizes of the tensor itself as constants, with 0 for "as it is"."""
    producers = {name: node for node in nodes for name in node.output}
    for node in nodes:
        maker = producers.get(node.input[1]) if node.op_type == "Reshape" else None
        if maker is None or maker.op_type != "Concat" or any(a.name == "allowzero" and a.i for a in node.attribute):
            continue
        target = _target(node.input[0], maker.input, producers, constants)
        if target is not None:
            node.input[1] = f"{node.output[0]}_target"
            constants[node.input[1]] = np.asarray(target, np.int64)


def _target(data: str, parts: Sequence[str], producers: Mapping[str, Any], constants: Mapping[str, Any]) -> list[int] | None:
    """The target's numbers; ``None`` where more than one depends on something else than the place it stands at."""
    target: list[int] = []
    for part in parts:
        if part in constants:
            target += constants[part].reshape(-1).tolist()
        else:
            target += [0] * taken if (taken := _copied(part, data, len(target), producers, constants)) else [-1]
    return target if target.count(-1) <= 1 else None


def _copied(part: str, data: str, place: int, producers: Mapping[str, Any], constants: Mapping[str, Any]) -> int:
    """How many sizes of `data` from `place` on a part of the target copies."""
    node = producers[part]
    if node.op_type == "Unsqueeze":
        node = producers.get(node.input[0])
    if node is None or node.op_type not in ("Gather", "Slice"):
        return 0
    shape = producers.get(node.input[0])
    numbers = [constants.get(name) for name in node.input[1:]]
    if shape is None or shape.op_type != "Shape" or shape.input[0] != data or shape.attribute or any(n is None for n in numbers):
        return 0
    values = [n.item() for n in numbers if n is not None and n.size == 1]
    if node.op_type == "Gather":
        return int(values == [place])
    start, end = values[:2] if len(values) == len(numbers) else (-1, -1)
    return end - start if start == place and end > start and set(values[2:]) <= {0, 1} else 0


def _alive(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def rename(model: Any, scopes: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    """Give nodes the names that they had in the file that the network came from.

    Args:
        model: Exported; its nodes are called ``/scope/…``.
        scopes: Scope (path of the submodule that was called) to the name of the node that it stands for.
        kinds: Operator by node name in the file that the network came from.
    """
    members: dict[str, list[Any]] = {}
    for node in model.graph.node:
        members.setdefault(node.name.split("/")[1] if node.name.startswith("/") else "", []).append(node)
    used: Counter[str] = Counter()
    for scope, nodes in members.items():
        if scope in scopes:
            _rename_scope(nodes, scopes[scope], kinds.get(scopes[scope], ""))
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
