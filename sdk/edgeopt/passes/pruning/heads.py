"""Finds the heads of attention in an imported network: which columns of which layers belong to which head.

Exporters write the way from a projection to its heads in many forms (reshapes of four, five or three dimensions, packed
projections, batch and heads in one dimension). So nobody reads it here: column numbers are sent through it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeopt.graph.torch_operators import divide

_SCALINGS = (operator.mul, operator.truediv, torch.mul, torch.div, divide)
_SOFTMAX = (torch.softmax, nn.functional.softmax)
_PRODUCTS = (torch.matmul, operator.matmul, torch.bmm)


@dataclass(frozen=True)
class Head:
    """One head: rows of the weights of query, key and value, and the columns of the output layer that read it, [n]."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor


@dataclass(frozen=True)
class Attention:
    """A layer of attention.

    Attributes:
        name: Of its soft-max.
        layers: The linear nodes of query, key, value (perhaps one and the same) and output.
        heads: At least one.
        ways: Nodes between the projections and the output layer, with the label of each column that runs through
            them: its place in the projection's output.
    """

    name: str
    layers: tuple[fx.Node, fx.Node, fx.Node, fx.Node]
    heads: tuple[Head, ...]
    ways: Mapping[fx.Node, Tensor]


class Unknown(Exception):
    """A soft-max that is no attention, or an attention that is not understood; says why."""


def attentions(network: Any, inputs: tuple[Tensor, ...]) -> Iterator[Attention | tuple[str, str]]:
    """All attention of a network; a name and a reason for what looks like attention and is not understood.

    Args:
        network: From `import_onnx`.
        inputs: A batch that it runs on.
    """
    values = _values(network, inputs)
    for node in network.graph.nodes:
        name = network.layer_names.get(str(node.target), node.name)
        if not _is_softmax(network, node):
            continue
        try:
            yield _attention(network, inputs, values, node, name)
        except Unknown as reason:
            if str(reason):
                yield name, str(reason)


def _values(network: Any, inputs: tuple[Tensor, ...]) -> dict[fx.Node, Any]:
    runner = fx.Interpreter(network, garbage_collect_values=False)
    with torch.no_grad():
        runner.run(*inputs)
    return dict(runner.env)


def _is_softmax(network: Any, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.Softmax)
    return node.op == "call_function" and node.target in _SOFTMAX


def _attention(
    network: Any, inputs: tuple[Tensor, ...], values: Mapping[fx.Node, Any], node: fx.Node, name: str
) -> Attention:
    walk = _Walk(network, values)
    context, _ = walk.forward(node, _PRODUCTS)
    scores = walk.product_behind(node)
    if context is None or scores is None:
        raise Unknown("")
    ways = [walk.back(factor) for factor in (*scores.args[:2], context.args[1])]
    out, onward = walk.forward(context, ())
    if out is None:
        raise Unknown("what it gives is not read by one linear layer")
    linear = [way[0] for way in ways]
    nodes = {*onward, context, *(node for _, way in ways for node in way)}
    walk.demand_closed(linear, nodes)
    labels = _labels(network, inputs, linear, nodes)
    query, key = scores.args[:2]
    heads = _heads(labels[query], labels[key], labels[context.args[1]], labels[out.args[0]])
    numbers = {node: _numbers(labels[node]) for node in nodes}
    return Attention(name, (*linear, out), heads, numbers)


def _numbers(labels: Any) -> Tensor:
    """Whole labels; none for a node that gives several tensors."""
    return labels.round().long() if isinstance(labels, Tensor) else torch.empty(0, dtype=torch.long)


class _Walk:
    """Follows tensors through the graph, past all that only moves or scales them."""

    def __init__(self, network: Any, values: Mapping[fx.Node, Any]) -> None:
        self._network, self._values = network, values

    def forward(self, node: fx.Node, ends: Sequence[Any]) -> tuple[fx.Node | None, list[fx.Node]]:
        """The first of `ends` (or linear layer, where there are none) that reads `node`, and the nodes on the way."""
        passed: list[fx.Node] = []
        while True:
            readers = [user for user in node.users if isinstance(self._values[user], Tensor) or user.op == "output"]
            if len(readers) != 1:
                return None, passed
            node = readers[0]
            if (node.target in ends if ends else self._is_linear(node)) and node.op != "output":
                return node, passed
            if not self._passes(node):
                return None, passed
            passed.append(node)

    def product_behind(self, softmax: fx.Node) -> fx.Node | None:
        """The product of queries and keys: the only product behind the soft-max, past scaling and masks."""
        todo, found = list(softmax.all_input_nodes), []
        while todo:
            node = todo.pop()
            if node.op != "call_function" or not isinstance(self._values[node], Tensor):
                continue
            if node.target in _PRODUCTS:
                found.append(node)
            else:
                todo += node.all_input_nodes
        return found[0] if len(found) == 1 else None

    def back(self, node: fx.Node) -> tuple[fx.Node, list[fx.Node]]:
        """The linear layer that a factor comes from, and the nodes on the way."""
        way: list[fx.Node] = []
        while not self._is_linear(node):
            way.append(node)
            sources = [source for source in node.all_input_nodes if self._carries(source)]
            if not self._passes(node) or len(sources) != 1:
                raise Unknown(f"its factors go through {node.name}" if len(way) > 1 else "")
            node = sources[0]
        return node, way

    def demand_closed(self, linear: Sequence[fx.Node], nodes: set[fx.Node]) -> None:
        """Nothing else may read what the heads are made of."""
        for node in (*linear, *(node for node in nodes)):
            for user in node.users:
                tensor = isinstance(self._values.get(user), Tensor)
                if tensor and user not in nodes and user.target not in _PRODUCTS and not self._is_linear(user):
                    raise Unknown(f"{user.name} reads its heads as well")

    def _carries(self, node: fx.Node) -> bool:
        value = self._values[node]
        return isinstance(value, (Tensor, tuple)) and node.op != "get_attr" and not self._is_scalar(value)

    @staticmethod
    def _is_scalar(value: Any) -> bool:
        return isinstance(value, Tensor) and value.numel() == 1

    def _passes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._network.get_submodule(str(node.target)), (nn.Identity, nn.Dropout))
        return node.op == "call_function" and node.target not in (*_PRODUCTS, *_SOFTMAX)

    def _is_linear(self, node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(self._network.get_submodule(str(node.target)), nn.Linear)


class _Labels(fx.Interpreter):  # type: ignore[misc]
    """Runs a network with column numbers in place of what some layers give; scaling leaves the numbers alone."""

    def __init__(self, network: Any, linear: Sequence[fx.Node], ways: set[fx.Node]) -> None:
        super().__init__(network, garbage_collect_values=False)
        self._linear, self._ways = set(linear), ways

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        if n in self._linear:
            return torch.arange(made.shape[-1], dtype=made.dtype).expand_as(made)
        if n in self._ways and n.target in _SCALINGS:
            return next(self.env[node] for node in n.all_input_nodes if node in self._ways or node in self._linear)
        return made


def _labels(
    network: Any, inputs: tuple[Tensor, ...], linear: Sequence[fx.Node], ways: set[fx.Node]
) -> dict[fx.Node, Any]:
    runner = _Labels(network, linear, ways)
    with torch.no_grad():
        runner.run(*inputs)
    return dict(runner.env)


def _heads(query: Tensor, key: Tensor, value: Tensor, read: Tensor) -> tuple[Head, ...]:
    """Heads from labels: query and value [..., positions, n], key [..., n, positions], read [..., columns]."""
    rows = [_constant(labels).reshape(-1, labels.shape[axis]) for labels, axis in
            ((query, -1), (key.transpose(-1, -2), -1), (value, -1))]  # fmt: skip
    if len({len(part) for part in rows}) != 1:
        raise Unknown("heads share keys or values")
    columns = read.round().long().reshape(-1, read.shape[-1])
    if bool((columns != columns[0]).any()):
        raise Unknown("positions and columns are mixed behind it")
    places = {int(label): place for place, label in enumerate(columns[0].tolist())}
    found: dict[tuple[int, ...], Head] = {}
    for labels in zip(*(part.round().long() for part in rows), strict=True):
        key_of_head = tuple(labels[0].tolist())
        if any(int(label) not in places for label in labels[2]):
            raise Unknown("its output layer does not read all of its columns")
        head = Head(labels[0], labels[1], labels[2], torch.tensor([places[int(label)] for label in labels[2]]))
        known = found.setdefault(key_of_head, head)
        if not (torch.equal(known.key, head.key) and torch.equal(known.value, head.value)):
            raise Unknown("heads share queries")
    heads = tuple(found.values())
    for part in ("query", "key", "value"):
        used = torch.cat([getattr(head, part) for head in heads])
        if len(used.unique()) != len(used):
            raise Unknown("heads share keys or values")
    return heads


def _constant(labels: Tensor) -> Tensor:
    """The labels of the first position, [..., n], which must be those of all."""
    first = labels[..., 0, :]
    if bool((labels != first.unsqueeze(-2)).any()):
        raise Unknown("positions and columns are mixed before it")
    return first
