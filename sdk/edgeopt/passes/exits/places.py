"""Where a graph can be left early, and the graph with the exits in it: an `If` whose else-branch holds the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgeopt.errors import PassError
from edgeopt.passes.graphs.prepare import opset_of
from edgeopt.passes.graphs.questions import reads

Array = np.ndarray[Any, Any]

_ENTROPY = "entropy"
_LATEST = 0.9
"""An exit behind this share of the cost saves too little."""


@dataclass(frozen=True)
class Place:
    """Where an exit can be.

    Attributes:
        tensor: What its head reads.
        node: The node that makes it.
        share: Share of the network's cost that is spent when it is known, 0 to 1.
    """

    tensor: str
    node: str
    share: float


@dataclass(frozen=True)
class Head:
    """A trained exit.

    Attributes:
        place: Where.
        shape: Shape of the tensor there, for one sample.
        channels_last: Whether it is tokens [B, L, D] rather than maps [B, C, ...].
        grid: Cells an axis that maps are averaged in.
        weight: [classes, features].
        bias: [classes].
        threshold: Confidence above which a sample leaves.
    """

    place: Place
    shape: tuple[int, ...]
    channels_last: bool
    grid: int
    weight: Array
    bias: Array
    threshold: float


class Flow:
    """Who makes and reads what in a graph.

    Args:
        model: The network; not changed.
        costs: Cost by node name; where all are 0, nodes are counted.
    """

    def __init__(self, model: Any, costs: Mapping[str, int]) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self._made = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        counted = any(costs.values())
        self._costs = [costs.get(node.name or node.output[0], 0) if counted else 1 for node in self.nodes]
        self._sizes = self._find_sizes()

    def _find_sizes(self) -> set[str]:
        """Tensors that hold constants, or sizes and what is computed of them: no data flows there."""
        found = {tensor.name for tensor in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type in ("Shape", "Size") or all(not name or name in found for name in reads(node)):
                found.update(node.output)
        return found

    def producer(self, tensor: str) -> Any:
        """The node that makes a tensor, or ``None``."""
        return self.nodes[self._made[tensor]] if tensor in self._made else None

    def before(self, tensors: Sequence[str]) -> set[int]:
        """Indices of the nodes that tensors depend on."""
        found: set[int] = set()
        waiting = [self._made[name] for name in tensors if name in self._made]
        while waiting:
            index = waiting.pop()
            if index not in found:
                found.add(index)
                waiting += [self._made[name] for name in reads(self.nodes[index]) if name in self._made]
        return found

    def place(self, tensor: str) -> Place:
        """What it costs to know a tensor."""
        spent = sum(self._costs[index] for index in self.before([tensor]))
        return Place(tensor, self.producer(tensor).name, spent / max(1, sum(self._costs)))

    def after(self, name: str) -> Place:
        """The place behind a node; quantised results are read as the next layer reads them.

        Raises:
            PassError: No such node.
        """
        node = next((node for node in self.nodes if node.name == name), None)
        if node is None:
            raise PassError(f"`after` names {name!r}, which is not a node of the network at this step.")
        tensor = node.output[0]
        while len(readers := [other for other in self.nodes if tensor in other.input]) == 1:
            if readers[0].op_type not in ("QuantizeLinear", "DequantizeLinear"):
                break
            tensor = readers[0].output[0]
        return self.place(tensor)

    def narrows(self) -> list[Place]:
        """Places through which all data flow, the last of those that cost the same."""
        last_read = {name: index for index, node in enumerate(self.nodes) for name in reads(node)}
        last_read.update({value.name: len(self.nodes) for value in self.model.graph.output})
        alive = {value.name for value in self.model.graph.input} - self._sizes
        found: dict[float, Place] = {}
        for index, node in enumerate(self.nodes):
            alive |= {name for name in node.output if name} - self._sizes
            alive = {name for name in alive if last_read.get(name, -1) > index}
            if len(alive) == 1 and (only := next(iter(alive))) in node.output:
                place = self.place(only)
                found[place.share] = place
        return [place for place in found.values() if 0 < place.share <= _LATEST]


def spread(places: Sequence[Place], count: int) -> list[Place]:
    """Those nearest to equal shares of the cost, in order, none twice."""
    chosen: list[Place] = []
    for step in range(1, count + 1):
        left = [place for place in places if place not in chosen]
        if left:
            chosen.append(min(left, key=lambda place: abs(place.share - step / (count + 1))))
    return sorted(chosen, key=lambda place: place.share)


def pooling(
    head_name: str, tensor: str, shape: Sequence[int], last: bool, grid: int, opset: int
) -> tuple[list[Any], Any]:
    """Nodes that make a vector [B, features] of a tensor; (nodes, initialisers)."""
    make, name, vector = onnx.helper.make_node, f"{head_name}/pool", f"{head_name}/vector"
    if len(shape) == 2:
        return [make("Identity", [tensor], [vector], name)], []
    if last:
        axes = list(range(1, len(shape) - 1))
        return _reduce("ReduceMean", tensor, vector, name, axes, opset)
    if grid == 1:
        pooled = make("GlobalAveragePool", [tensor], [name], name)
    else:
        cells = [max(1, size // grid) for size in shape[2:]]
        pooled = make("AveragePool", [tensor], [name], name, kernel_shape=cells, strides=cells)
    return [pooled, make("Flatten", [name], [vector], f"{head_name}/flatten")], []


def _reduce(kind: str, tensor: str, made: str, name: str, axes: Sequence[int], opset: int) -> tuple[list[Any], Any]:
    """A reduction without keeping dimensions, its axes where the opset wants them."""
    if opset >= (13 if kind == "ReduceSum" else 18):
        held = onnx.numpy_helper.from_array(np.array(axes, dtype=np.int64), f"{name}/axes")
        return [onnx.helper.make_node(kind, [tensor, held.name], [made], name, keepdims=0)], [held]
    return [onnx.helper.make_node(kind, [tensor], [made], name, axes=list(axes), keepdims=0)], []


def with_exits(flow: Flow, heads: Sequence[Head], confidence: str) -> Any:
    """The network with its exits.

    Args:
        flow: The network; it has one output, [B, classes].
        heads: In the order in which they are reached.
        confidence: ``probability`` or ``entropy``.

    Returns:
        A model with the same inputs and output.
    """
    made = onnx.ModelProto()
    made.CopyFrom(flow.model)
    builder = _Builder(flow, confidence)
    body = builder.level(heads, set(), 0)
    graph = onnx.helper.make_graph(body.nodes, made.graph.name, made.graph.input, made.graph.output, body.initialisers)
    made.graph.CopyFrom(graph)
    return made


@dataclass(frozen=True)
class _Body:
    nodes: list[Any]
    initialisers: list[Any]
    result: str


class _Builder:
    def __init__(self, flow: Flow, confidence: str) -> None:
        self._flow, self._confidence = flow, confidence
        self._opset = opset_of(flow.model)
        self._output = flow.model.graph.output[0]
        self._held = {tensor.name: tensor for tensor in flow.model.graph.initializer}
        self._placed: set[str] = set()
        producer = flow.producer(self._output.name)
        self._gives_shares = producer is not None and producer.op_type == "Softmax"

    def level(self, heads: Sequence[Head], outside: set[int], depth: int) -> _Body:
        """What is computed up to the next exit, and the exit with all that follows it inside."""
        wanted = [heads[0].place.tensor] if heads else [self._output.name]
        inside = self._flow.before(wanted) - outside
        nodes = [_copied(self._flow.nodes[index]) for index in sorted(inside)]
        nodes = self._reading_quantised(nodes, depth)
        result = self._output.name if not depth else f"{self._output.name}/late_{depth}"
        initialisers = self._take({name for node in nodes for name in reads(node)})
        if not heads:
            _rename(nodes, {self._output.name: result})
            return _Body(nodes, initialisers, result)
        logits, sure, extra, weights = self._exit(heads[0], depth + 1)
        late = self.level(heads[1:], outside | inside, depth + 1)
        nodes += [*extra, self._choice(logits, sure, late, result, depth + 1)]
        return _Body(nodes, [*initialisers, *weights], result)

    def _take(self, names: set[str]) -> list[Any]:
        """Weights that no level outside has; what only the rest reads is loaded and folded with the rest."""
        taken = [name for name in self._held if name in names and name not in self._placed]
        self._placed.update(taken)
        return [self._held[name] for name in taken]

    def _reading_quantised(self, nodes: list[Any], depth: int) -> list[Any]:
        """Dequantise inside what was dequantised outside, so that integer layers are still recognised as such."""
        made = {name for node in nodes for name in node.output}
        crossing = sorted({name for node in nodes for name in node.input} - made)
        copies, names = [], {}
        for name in crossing:
            producer = self._flow.producer(name)
            if producer is not None and producer.op_type == "DequantizeLinear":
                copy = _copied(producer)
                names[name] = copy.output[0] = f"{name}/inside_{depth}"
                copy.name = f"{producer.name}/inside_{depth}"
                copies.append(copy)
        _rename(nodes, names)
        return [*copies, *nodes]

    def _exit(self, head: Head, number: int) -> tuple[str, str, list[Any], list[Any]]:
        """Scores and confidence of an exit: (scores, whether all are sure, nodes, initialisers)."""
        name, make, opset = f"exit_{number}", onnx.helper.make_node, self._opset
        nodes, weights = pooling(name, head.place.tensor, head.shape, head.channels_last, head.grid, opset)
        for part, values in (("weight", head.weight), ("bias", head.bias), ("threshold", np.array(head.threshold))):
            weights.append(onnx.numpy_helper.from_array(values.astype(np.float32), f"{name}/{part}"))
        logits, shares = f"{name}/scores", f"{name}/shares"
        inputs = [f"{name}/vector", f"{name}/weight", f"{name}/bias"]
        nodes.append(make("Gemm", inputs, [logits], f"{name}/head", transB=1))
        nodes.append(make("Softmax", [logits], [shares], f"{name}/softmax", axis=-1))
        if self._confidence == _ENTROPY:
            nodes.append(make("LogSoftmax", [logits], [f"{name}/logs"], f"{name}/log_softmax", axis=-1))
            nodes.append(make("Mul", [shares, f"{name}/logs"], [f"{name}/terms"], f"{name}/mul"))
            steps = [
                ("ReduceSum", f"{name}/terms", f"{name}/each", [1]),
                ("ReduceMin", f"{name}/each", f"{name}/least", [0]),
            ]
        else:
            steps = [("ReduceMax", shares, f"{name}/each", [1]), ("ReduceMin", f"{name}/each", f"{name}/least", [0])]
        for kind, read, made, axes in steps:
            found, held = _reduce(kind, read, made, f"{made}_of", axes, opset)
            nodes, weights = [*nodes, *found], [*weights, *held]
        nodes.append(make("Greater", [f"{name}/least", f"{name}/threshold"], [f"{name}/sure"], f"{name}/sure"))
        return shares if self._gives_shares else logits, f"{name}/sure", nodes, weights

    def _choice(self, scores: str, sure: str, late: _Body, result: str, number: int) -> Any:
        name = f"exit_{number}"
        early = f"{self._output.name}/early_{number}"
        leave = onnx.helper.make_node("Identity", [scores], [early], f"{name}/leave")
        kind = self._output.type.tensor_type
        sizes = [size.dim_param or size.dim_value or None for size in kind.shape.dim]

        def typed(tensor: str) -> Any:
            return onnx.helper.make_tensor_value_info(tensor, kind.elem_type, sizes)

        then = onnx.helper.make_graph([leave], f"{name}/early", [], [typed(early)])
        rest = onnx.helper.make_graph(late.nodes, f"{name}/rest", [], [typed(late.result)], late.initialisers)
        return onnx.helper.make_node("If", [sure], [result], name, then_branch=then, else_branch=rest)


def _copied(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _rename(nodes: Sequence[Any], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
