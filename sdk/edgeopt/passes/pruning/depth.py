"""Makes a network shallower: residual blocks go, of every stage the last ones first.

A block is what lies between a sum and the one value that all of it is computed from. Where both have the same shape,
what comes after can be computed from that value as well.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from edgeopt.errors import PassError

_SUMS = (operator.add, torch.add)


@dataclass(frozen=True)
class Block:
    """A residual block.

    Attributes:
        entry: The value that all of it is computed from.
        exit: The sum.
        shape: Of the sum's result.
        whole: Whether it can go: it keeps the shape, and nothing after it reads what is inside.
    """

    entry: fx.Node
    exit: fx.Node
    shape: tuple[int, ...]
    whole: bool


def drop_blocks(network: fx.GraphModule, inputs: Sequence[Tensor], depth: float) -> tuple[int, int]:
    """Drop residual blocks, in place.

    Args:
        network: From `import_onnx`.
        inputs: A batch that it runs on.
        depth: Share of the blocks of each stage (of one shape) that stays, at least one.

    Returns:
        Blocks before and after.

    Raises:
        PassError: There is none that can go.
    """
    blocks = blocks_of(network, inputs)
    stages: dict[tuple[int, ...], list[Block]] = {}
    for block in blocks:
        stages.setdefault(block.shape, []).append(block)
    going: list[Block] = []
    for stage in stages.values():
        surplus = len(stage) - max(1, round(depth * len(stage)))
        going += [block for block in reversed(stage) if block.whole][:surplus]
    if not going:
        raise PassError(
            f"no residual block can go at depth {depth:g}: the network has {len(blocks)}, of which "
            f"{sum(block.whole for block in blocks)} keep the shape.",
            remedy="Leave depth at 1 and make the student narrower.",
        )
    _drop(network, [block for block in blocks if block in going])
    return len(blocks), len(blocks) - len(going)


def blocks_of(network: fx.GraphModule, inputs: Sequence[Tensor]) -> tuple[Block, ...]:
    """All residual blocks with weights in them, in order; of nested ones the outer alone."""
    with torch.no_grad():
        ShapeProp(network).propagate(*inputs)
    entries = _dominators(network.graph)
    found: list[Block] = []
    covered: set[fx.Node] = set()
    for node in reversed(network.graph.nodes):
        if node.target not in _SUMS or node in covered or entries.get(node) is None:
            continue
        inner = _between(entries[node], node, entries)
        if any(_weighs(network, part) for part in inner) and _summands(node, inner | {entries[node]}) == 2:
            found.append(_block(entries[node], node, inner))
            covered |= inner
    return tuple(reversed(found))


def _block(entry: fx.Node, end: fx.Node, inner: set[fx.Node]) -> Block:
    closed = all(user in inner or user is end for part in inner for user in part.users)
    return Block(entry, end, _shape(end), closed and _shape(entry) == _shape(end))


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta: Any = node.meta.get("tensor_meta")
    return tuple(getattr(meta, "shape", ()))


def _summands(node: fx.Node, computed: set[fx.Node]) -> int:
    return sum(argument in computed for argument in node.args)


def _dominators(graph: fx.Graph) -> dict[fx.Node, fx.Node | None]:
    """Of every node that depends on the inputs, the last one that all ways from the inputs lead through.

    Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm, 2001; one sweep, as the graph has no cycles.
    """
    dominator: dict[fx.Node, fx.Node | None] = {}
    level: dict[fx.Node | None, int] = {None: 0}

    def common(one: fx.Node | None, other: fx.Node | None) -> fx.Node | None:
        while one is not other:
            if level[one] >= level[other]:
                one = dominator[one] if one else None
            else:
                other = dominator[other] if other else None
        return one

    for node in graph.nodes:
        known = [source for source in node.all_input_nodes if source in dominator]
        if known or node.op == "placeholder":
            dominator[node] = functools.reduce(common, known) if known else None
            level[node] = level[dominator[node]] + 1
    return dominator


def _between(entry: fx.Node | None, end: fx.Node, computed: dict[fx.Node, Any]) -> set[fx.Node]:
    """Nodes that `end` is computed from and that depend on `entry`, both excluded."""
    inner: set[fx.Node] = set()
    todo = list(end.all_input_nodes)
    while todo:
        node = todo.pop()
        if node is not entry and node in computed and node not in inner:
            inner.add(node)
            todo += node.all_input_nodes
    return inner


def _weighs(network: nn.Module, node: fx.Node) -> bool:
    return node.op == "call_module" and any(True for _ in network.get_submodule(str(node.target)).parameters())


def _drop(network: fx.GraphModule, blocks: Sequence[Block]) -> None:
    gone: dict[fx.Node, fx.Node] = {}
    for block in blocks:
        entry = gone.get(block.entry, block.entry)
        block.exit.replace_all_uses_with(entry)
        gone[block.exit] = entry
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    names: dict[str, str] = network.layer_names
    used = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
    network.layer_names = {path: name for path, name in names.items() if path in used}
