"""Finds the residual blocks that can be left out, and leaves out those that change the output least, one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_layers import Options
from edgeopt.passes.pruning.channels import outputs
from edgeopt.passes.pruning.depth import Block, blocks_of
from edgeopt.passes.pruning.subject import BATCH, Data, data_of, demand_layers, listed, size_of

MOST_SAMPLES = 64


def leave_out(network: Any, options: Options, context: PassContext) -> tuple[str, ...]:
    """Leave out blocks, in place.

    Args:
        network: From `import_onnx`.
        options: How many.
        context: Gives the samples.

    Returns:
        Notes: what went and how much it changed, the size before and after.

    Raises:
        PassError: See `PruneLayers.apply`.
    """
    data = data_of(context, network.input_names)
    inputs = data.inputs(network)
    layers = set(network.layer_names.values())
    demand_layers("ignore", options.ignore, sorted(layers))
    found = _candidates(network, inputs, options)
    before, count = size_of(network, inputs), _count(options, len(found))
    batches = _batches(data, len(inputs[0]))
    expected = [outputs(network, batch) for batch in batches]
    gone: list[str] = []
    for _ in range(count):
        candidates = _candidates(network, inputs, options)
        if not candidates:
            raise PassError(f"only {len(gone)} of {count} blocks can be left out: the others hang on those.")
        changes = [_change(network, block, batches, expected, options) for block in candidates]
        least = min(range(len(candidates)), key=lambda index: changes[index])
        gone.append(f"{_name(network, candidates[least])} ({_words(options, changes[least])})")
        _remove(network, candidates[least])
    return (f"left out {count} of {len(found)} residual blocks: {listed(gone)}", before.to(size_of(network, inputs)))


def _candidates(network: Any, inputs: tuple[Tensor, ...], options: Options) -> list[Block]:
    blocks = [block for block in blocks_of(network, inputs) if block.whole]
    kept = [block for block in blocks if not set(options.ignore).intersection(_layers(network, block))]
    if not kept and not blocks:
        raise PassError(
            "the network has no residual block that keeps the shape, so no layer can be left out.",
            remedy="Make it narrower instead: prune_channels.",
        )
    return kept


def _count(options: Options, found: int) -> int:
    count = math.floor(options.ratio * found + 0.5) if options.ratio else options.count
    if count > found:
        raise PassError(
            f"{count} residual blocks are to go, but only {found} can.", remedy=f"Ask for {found} or fewer."
        )
    if not count:
        raise PassError(f"ratio {options.ratio} of {found} residual blocks is none.", remedy="Ask for more.")
    return count


def _batches(data: Data, rows: int) -> list[tuple[Tensor, ...]]:
    size = BATCH if rows > data.typical.rows else 1
    count = min(len(data.typical), MOST_SAMPLES)
    return [data.typical.batch(range(at, min(at + size, count)))[0] for at in range(0, count, size)]


class _Without(fx.Interpreter):  # type: ignore[misc]
    """Runs a network as if the values of some nodes were those of others."""

    def __init__(self, network: fx.GraphModule, instead: Mapping[fx.Node, fx.Node]) -> None:
        super().__init__(network, garbage_collect_values=False)
        self._instead = instead

    def run_node(self, n: fx.Node) -> Any:
        return self.env[self._instead[n]] if n in self._instead else super().run_node(n)


def _change(
    network: Any,
    block: Block,
    batches: Sequence[tuple[Tensor, ...]],
    expected: Sequence[Sequence[Tensor]],
    options: Options,
) -> float:
    """Mean change of the outputs over all rows; infinite where one is not finite."""
    total, rows = 0.0, 0
    runner = _Without(network, {block.exit: block.entry})
    for batch, right in zip(batches, expected, strict=True):
        for one, other in zip(outputs(runner.run, batch), right, strict=True):
            if one.is_floating_point():
                total += float(_apart(one, other, options.measure).sum())
                rows += len(one)
    return total / max(rows, 1) if math.isfinite(total) else math.inf


def _apart(one: Tensor, other: Tensor, measure: str) -> Tensor:
    """How far two outputs are apart, [rows]."""
    if measure == "kl":
        logs, right = one.log_softmax(-1), other.log_softmax(-1)
        return (right.exp() * (right - logs)).flatten(1).sum(1)
    return 1 - torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)


def _words(options: Options, change: float) -> str:
    return f"divergence {change:.3g}" if options.measure == "kl" else f"cosine {1 - change:.3f}"


def _layers(network: Any, block: Block) -> list[str]:
    """Names of the layers with weights in a block, in order."""
    inside, todo = set(), list(block.exit.all_input_nodes)
    while todo:
        node = todo.pop()
        if node is not block.entry and node not in inside and node.op != "placeholder":
            inside.add(node)
            todo += node.all_input_nodes
    modules = [str(node.target) for node in network.graph.nodes if node in inside and node.op == "call_module"]
    weighted = [path for path in modules if any(True for _ in network.get_submodule(path).parameters())]
    return [network.layer_names.get(path, path) for path in weighted]


def _name(network: Any, block: Block) -> str:
    layers = _layers(network, block)
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"


def _remove(network: Any, block: Block) -> None:
    block.exit.replace_all_uses_with(block.entry)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    used = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
    network.layer_names = {path: name for path, name in network.layer_names.items() if path in used}
