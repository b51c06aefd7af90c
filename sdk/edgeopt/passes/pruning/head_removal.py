"""Removes heads from attention: rows and columns of its layers, and the sizes in all that lies between them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_indexing import take
from edgeopt.graph.torch_layout import expand, reshape
from edgeopt.passes.pruning.channels import close, outputs
from edgeopt.passes.pruning.heads import Attention, attentions


class Refused(Exception):
    """The heads of this attention cannot be removed; says why."""


def without_heads(network: Any, name: str, heads: Sequence[int], inputs: tuple[Tensor, ...]) -> Any:
    """A copy of a network without some heads.

    Args:
        network: From `import_onnx`; left as it is.
        name: Of the attention.
        heads: Numbers of heads.
        inputs: A batch to find and to prove it by.

    Returns:
        A network that gives what the first one gives with these heads silenced.

    Raises:
        Refused: It would not run, or would give something else.
    """
    changed = copy.deepcopy(network)
    attention = next(
        found for found in attentions(changed, inputs) if isinstance(found, Attention) and found.name == name
    )
    one = tuple(tensor[:1] for tensor in inputs)
    _silence(changed, attention, heads)
    expected = [outputs(changed, batch) for batch in (inputs, one)]
    try:
        _Removal(changed, attention, heads, inputs).run()
        found = [outputs(changed, batch) for batch in (inputs, one)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise Refused(" ".join(str(error).split())[:80]) from None
    for right, made in zip(expected, found, strict=True):
        if not all(a.shape == b.shape and close(a, b) for a, b in zip(made, right, strict=True)):
            raise Refused("the other heads would change")
    return changed


def _silence(network: Any, attention: Attention, heads: Sequence[int]) -> None:
    out = network.get_submodule(str(attention.layers[3].target))
    for index in heads:
        out.weight.data[:, attention.heads[index].out] = 0


class _Removal:
    def __init__(self, network: Any, attention: Attention, heads: Sequence[int], inputs: tuple[Tensor, ...]) -> None:
        self._network, self._attention, self._inputs = network, attention, inputs
        self._gone, self._left = set(heads), len(attention.heads) - len(heads)
        self._sizes = {node: int(self._linear(node).out_features) for node in attention.layers[:3]}
        self._head_of = self._numbers()

    def run(self) -> None:
        self._cut_layers()
        for node in list(self._network.graph.nodes):
            if node in self._attention.ways:
                self._resize(node, self._attention.ways[node])
        self._network.graph.lint()
        self._network.recompile()

    def _numbers(self) -> Tensor:
        """The head of each label. Labels of several projections coincide only where they belong to one head."""
        numbers = torch.full((3, max(self._sizes.values())), -1)
        for index, head in enumerate(self._attention.heads):
            for part, labels in enumerate((head.query, head.key, head.value)):
                numbers[part, labels] = index
        if len(set(self._attention.layers[:3])) == 1:
            return numbers.amax(0).expand(3, -1)
        return numbers

    def _linear(self, node: fx.Node) -> Any:
        return self._network.get_submodule(str(node.target))

    def _resize(self, node: fx.Node, labels: Tensor) -> None:
        if node.target in (reshape, expand, torch.reshape):
            self._resize_target(node, self._owner(node)[labels])
        elif node.target is take:
            self._resize_slice(node, labels)

    def _owner(self, node: fx.Node) -> Tensor:
        """The head of each label that runs through a node, by the projection that it is computed from."""
        projections = self._attention.layers[:3]
        while node not in projections:
            sources = node.all_input_nodes
            node = next((each for each in sources if each in projections), None) or next(
                each for each in reversed(sources) if each in self._attention.ways
            )
        return self._head_of[projections.index(node)]

    def _resize_target(self, node: fx.Node, owners: Tensor) -> None:
        axes = [axis for axis in range(owners.ndim) if bool((owners != owners.select(axis, 0).unsqueeze(axis)).any())]
        if len(axes) != 1:
            raise Refused(f"heads lie along {len(axes)} dimensions in {node.name}")
        axis, size = axes[0], owners.shape[axes[0]] * self._left // len(self._attention.heads)
        target: Any = node.args[1]
        if isinstance(target, (list, tuple)):
            if target[axis] != -1 and axis not in (node.args[2] if len(node.args) > 2 else ()):
                node.update_arg(1, [*target[:axis], size, *target[axis + 1 :]])
            return
        if _computed(self._network, self._inputs, node)[axis] == owners.shape[axis]:  # else it follows by itself
            with self._network.graph.inserting_before(node):
                node.update_arg(1, self._call(resized, target, axis, self._left, len(self._attention.heads)))

    def _call(self, function: Any, *arguments: Any) -> fx.Node:
        made: fx.Node = self._network.graph.call_function(function, arguments)
        made.meta["is_wrapped"] = True
        return made

    def _resize_slice(self, node: fx.Node, labels: Tensor) -> None:
        """Put the bounds where the same columns lie now."""
        source: Any = node.args[0]
        axes: Any = node.args[3]
        before = self._attention.ways.get(source, torch.arange(self._sizes.get(source, 0)))
        axis = int(axes[0]) % labels.ndim
        kept = []
        for part in (before, labels):
            along = _along(part, axis if part.ndim > 1 else 0)
            owners = self._owner(source)[along].tolist()
            if len(set(owners)) == 1:
                return
            kept.append([label for label, owner in zip(along.tolist(), owners, strict=True) if owner not in self._gone])
        start = kept[0].index(kept[1][0])
        if len(axes) > 1 or kept[0][start : start + len(kept[1])] != kept[1]:
            raise Refused(f"{node.name} cuts heads in a way that is not known")
        node.update_arg(1, [start])
        node.update_arg(2, [start + len(kept[1])])

    def _cut_layers(self) -> None:
        heads = [head for index, head in enumerate(self._attention.heads) if index in self._gone]
        gone: dict[fx.Node, list[Tensor]] = {}
        for node, part in zip(self._attention.layers[:3], ("query", "key", "value"), strict=True):
            gone.setdefault(node, []).extend(getattr(head, part) for head in heads)
        for node, rows in gone.items():
            layer = self._linear(node)
            keep = _others(layer.out_features, rows)
            layer.weight = nn.Parameter(layer.weight.data[keep].clone())
            if layer.bias is not None:
                layer.bias = nn.Parameter(layer.bias.data[keep].clone())
            layer.out_features = len(keep)
        out = self._linear(self._attention.layers[3])
        keep = _others(out.in_features, [head.out for head in heads])
        out.weight = nn.Parameter(out.weight.data[:, keep].clone())
        out.in_features = len(keep)


def resized(target: Any, axis: int, left: int, heads: int) -> list[Any]:
    """A list of sizes with one of them smaller in the proportion of heads; part of the changed network."""
    sizes = torch_shapes.as_list(target)
    return [size * left // heads if place == axis else size for place, size in enumerate(sizes)]


class _Until(fx.Interpreter):  # type: ignore[misc]
    """Runs a network up to a node, and keeps what its second argument is."""

    def __init__(self, network: Any, node: fx.Node) -> None:
        super().__init__(network, garbage_collect_values=False)
        self._node, self.found = node, []  # type: ignore[var-annotated]

    def run_node(self, n: fx.Node) -> Any:
        if n is self._node:
            self.found = torch_shapes.as_list(self.map_nodes_to_values(n.args[1], n))
            raise StopIteration
        return super().run_node(n)


def _computed(network: Any, inputs: tuple[Tensor, ...], node: fx.Node) -> list[Any]:
    """The sizes that a node gets at run time."""
    runner = _Until(network, node)
    with torch.no_grad(), contextlib.suppress(StopIteration):
        runner.run(*inputs)
    return runner.found


def _along(labels: Tensor, axis: int) -> Tensor:
    """The labels along one axis, at the beginning of all others."""
    return labels.movedim(axis, 0).reshape(labels.shape[axis], -1)[:, 0]


def _others(count: int, gone: Sequence[Tensor]) -> Tensor:
    mask = torch.ones(count, dtype=torch.bool)
    mask[torch.cat(list(gone))] = False
    return mask.nonzero().flatten()
