"""Finds the layers that read an input first, scores the features they read, and takes the least important ones away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.pruning.channels import RECURRENT, Member, readers
from edgeopt.passes.pruning.importance import Evidence, batches, loss_of
from edgeopt.passes.pruning.subject import BATCH, data_of, listed, size_of
from edgeopt.passes.select_features import Options


@dataclass(frozen=True)
class _Entry:
    """Where the features of an input are read.

    Attributes:
        node: Gives the tensor whose features are chosen.
        readers: Nodes of the layers that read it.
        axis: The tensor's axis of features.
        width: Features there are.
    """

    node: fx.Node
    readers: tuple[fx.Node, ...]
    axis: int
    width: int


def select(network: Any, options: Options, context: PassContext) -> tuple[str, ...]:
    """Take features away, in place.

    Args:
        network: From `import_onnx`.
        options: How many features of which input.
        context: Samples, loss and seed.

    Returns:
        Notes: which features are read, the size before and after.

    Raises:
        PassError: See `SelectFeatures.apply`.
    """
    data = data_of(context, network.input_names)
    inputs = data.inputs(network)
    name, entry = _entry(network, options, inputs)
    kept_count = options.count or max(1, round(options.ratio * entry.width))
    if kept_count >= entry.width:
        raise PassError(f"{kept_count} features are to stay, but `{name}` has {entry.width}.", remedy="Keep fewer.")
    batch = BATCH if len(inputs[0]) > data.typical.rows else 1
    typical = Evidence(network, data.typical, None, context.seed, batch)
    mean, spread = _statistics(entry, typical)
    judged = Evidence(network, data.judged, data.loss, context.seed, batch)
    scores = _by_gradient(entry, mean, judged) if options.importance == "taylor" else spread * _norms(network, entry)
    kept = torch.argsort(scores, descending=True, stable=True)[:kept_count].sort().values
    before = size_of(network, inputs)
    _cut(network, entry, kept, mean)
    numbers = listed(kept.tolist())
    after = size_of(network, inputs)
    return (f"reads {kept_count} of {entry.width} features of `{name}`: {numbers}", before.to(after))


def _entry(network: Any, options: Options, inputs: tuple[Tensor, ...]) -> tuple[str, _Entry]:
    name = options.input or network.input_names[0]
    if name not in network.input_names or (not options.input and len(network.input_names) > 1):
        what = f"has no input {options.input!r}" if options.input else "has several inputs, of which one must be named"
        raise PassError(f"the network {what}.", remedy=f"Its inputs: {', '.join(network.input_names)}.")
    placeholders = [node for node in network.graph.nodes if node.op == "placeholder"]
    start = placeholders[network.input_names.index(name)]
    runner = fx.Interpreter(network, garbage_collect_values=False)
    with torch.no_grad():
        runner.run(*inputs)
    pairs = list(_first_layers(network, start, runner.env, name))
    sources = {source for source, _ in pairs}
    axes = {_axis(network, layer, runner.env[source]) for source, layer in pairs}
    if len(sources) != 1 or len(axes) != 1:
        raise PassError(
            f"`{name}` is read in {max(len(sources), len(axes))} ways, so no feature can be left out in all."
        )
    source, axis = sources.pop(), axes.pop()
    return name, _Entry(source, tuple(layer for _, layer in pairs), axis, int(runner.env[source].shape[axis]))


def _first_layers(network: Any, start: fx.Node, values: Any, name: str) -> list[tuple[fx.Node, fx.Node]]:
    """Pairs of a tensor that is made of an input without weights, and the layer with weights that reads it."""
    found, todo, seen = [], [start], {start}
    while todo:
        node = todo.pop(0)
        for user in node.users:
            layer = network.get_submodule(str(user.target)) if user.op == "call_module" else None
            if isinstance(layer, (_ConvNd, nn.Linear, *RECURRENT)) and user.args[0] is node:
                if isinstance(layer, _ConvTransposeNd) or getattr(layer, "groups", 1) > 1:
                    raise PassError(
                        f"`{name}` is read by {_named(network, user)}, a grouped or transposed convolution."
                    )
                found.append((node, user))
            elif user.op == "output" or isinstance(layer, nn.Embedding):
                raise PassError(f"`{name}` is not read by features: it goes to {_named(network, user)}.")
            elif isinstance(values[user], Tensor) and user not in seen:
                seen.add(user)
                todo.append(user)
    return found


def _named(network: Any, node: fx.Node) -> str:
    return str(network.layer_names.get(str(node.target), node.name))


def _axis(network: Any, layer: fx.Node, tensor: Tensor) -> int:
    return 1 if isinstance(network.get_submodule(str(layer.target)), _ConvNd) else tensor.ndim - 1


def _seen(entry: _Entry, evidence: Evidence) -> Any:
    """A hook on the first reader, and the list into which it puts the tensor that comes in."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0].detach().requires_grad_(inputs[0].is_floating_point())
        seen[:] = [x]
        return (x, *inputs[1:])

    layer = evidence.network.get_submodule(str(entry.readers[0].target))
    return layer.register_forward_pre_hook(hook), seen


def _statistics(entry: _Entry, evidence: Evidence) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature on calibration."""
    hook, seen = _seen(entry, evidence)
    totals, squares, count = torch.zeros(entry.width).double(), torch.zeros(entry.width).double(), 0
    try:
        for inputs, _ in batches(evidence.samples, evidence.batch):
            with torch.no_grad():
                evidence.network(*inputs)
            rows = seen[0].detach().movedim(entry.axis, -1).flatten(0, -2).double()
            totals, squares, count = totals + rows.sum(0), squares + rows.square().sum(0), count + len(rows)
    finally:
        hook.remove()
    mean = totals / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()


def _norms(network: Any, entry: _Entry) -> Tensor:
    """Norm of the weights that read each feature, over all layers that do."""
    total = torch.zeros(entry.width)
    for layer in entry.readers:
        for weights in _weights(network, layer, entry.width):
            total += weights.detach().flatten(1).square().sum(1)
    return total.sqrt()


def _weights(network: Any, layer: fx.Node, width: int) -> Sequence[Tensor]:
    every = torch.arange(width)
    return readers(Member(network.get_submodule(str(layer.target)), "in", every, every))


def _by_gradient(entry: _Entry, mean: Tensor, evidence: Evidence) -> Tensor:
    """Squared first-order change of the loss when each feature is put to its mean, averaged over batches.

    Taken at the first layer that reads the features; those beside it mostly read them alike.
    """
    hook, seen = _seen(entry, evidence)
    total = torch.zeros(entry.width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evidence.seed)
        try:
            for inputs, labels in batches(evidence.samples, evidence.batch):
                evidence.network.zero_grad(set_to_none=True)
                loss_of(evidence, inputs, labels).backward()
                x = seen[0]
                change = (x.detach().movedim(entry.axis, -1) - mean) * x.grad.movedim(entry.axis, -1)
                total += change.flatten(1, -2).sum(1).square().sum(0) if change.ndim > 2 else change.square().sum(0)
        finally:
            hook.remove()
            evidence.network.zero_grad(set_to_none=True)
    return total


def _cut(network: Any, entry: _Entry, kept: Tensor, mean: Tensor) -> None:
    """Put the choice in front of the layers, and take the other features' weights out of them."""
    gone = torch.ones(entry.width, dtype=torch.bool)
    gone[kept] = False
    for node in entry.readers:
        layer = network.get_submodule(str(node.target))
        with torch.no_grad():
            _shift(layer, gone, mean)
            _narrow(layer, kept)
    name = next(text for text in (f"features_{index}" for index in range(1 << 20)) if not hasattr(network, text))
    network.register_buffer(name, kept)
    with network.graph.inserting_after(entry.node):
        places = network.graph.get_attr(name)
    with network.graph.inserting_after(places):
        chosen = network.graph.call_function(torch.index_select, (entry.node, entry.axis, places))
    for node in entry.readers:
        node.update_arg(0, chosen)
    network.graph.lint()
    network.recompile()


def _shift(layer: Any, gone: Tensor, mean: Tensor) -> None:
    """Add to the bias what the features that go give on average."""
    if isinstance(layer, RECURRENT):
        for name, weight in layer.named_parameters():
            if name.startswith("weight_ih_l0") and layer.bias:
                getattr(layer, name.replace("weight", "bias")).add_(weight[:, gone] @ mean[gone])
        return
    weight = layer.weight.flatten(2).sum(2) if isinstance(layer, _ConvNd) else layer.weight
    given = weight[:, gone] @ mean[gone]
    layer.bias = nn.Parameter(given if layer.bias is None else layer.bias + given)


def _narrow(layer: Any, kept: Tensor) -> None:
    if isinstance(layer, RECURRENT):
        for name, weight in list(layer.named_parameters()):
            if name.startswith("weight_ih_l0"):
                setattr(layer, name, nn.Parameter(weight[:, kept].clone()))
        layer.input_size = len(kept)
        return
    layer.weight = nn.Parameter(layer.weight[:, kept].clone())
    if isinstance(layer, _ConvNd):
        layer.in_channels = len(kept)
    else:
        layer.in_features = len(kept)
