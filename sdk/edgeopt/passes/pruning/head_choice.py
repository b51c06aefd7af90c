"""Scores the heads of all attention and removes the least important ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_heads import Options
from edgeopt.passes.pruning.head_removal import Refused, without_heads
from edgeopt.passes.pruning.heads import Attention, attentions
from edgeopt.passes.pruning.importance import Evidence, batches, loss_of
from edgeopt.passes.pruning.subject import BATCH, data_of, demand_layers, listed, size_of


def prune_heads(network: Any, options: Options, context: PassContext) -> tuple[Any, tuple[str, ...]]:
    """Remove heads.

    Args:
        network: From `import_onnx`.
        options: How many, by what.
        context: Samples, loss and seed.

    Returns:
        The changed network, and notes.

    Raises:
        PassError: See `PruneHeads.apply`.
    """
    data = data_of(context, network.input_names)
    inputs = data.inputs(network)
    found = list(attentions(network, inputs))
    known = [each for each in found if isinstance(each, Attention)]
    skipped = {each[0]: each[1] for each in found if not isinstance(each, Attention)}
    demand_layers("ignore", options.ignore, [*(each.name for each in known), *skipped])
    chosen = [each for each in known if each.name not in options.ignore and len(each.heads) > 1]
    _demand_any(chosen, skipped)
    batch = BATCH if len(inputs[0]) > data.typical.rows else 1
    evidence = Evidence(network, data.judged, data.loss, context.seed, batch)
    before, removed = size_of(network, inputs), []
    for attention, gone in zip(chosen, _choose(chosen, _scores(chosen, options, evidence), options), strict=True):
        if gone:
            try:
                network = without_heads(network, attention.name, gone, inputs)
                removed.append(f"{attention.name} {len(attention.heads)} -> {len(attention.heads) - len(gone)}")
            except Refused as reason:
                skipped[attention.name] = str(reason)
    if not removed:
        _demand_any([], skipped)
    notes = [before.to(size_of(network, inputs)), f"heads: {listed(removed)}"]
    if skipped:
        notes.append(f"skipped {len(skipped)} layers of attention: {_reasons(skipped)}")
    return network, tuple(notes)


def _demand_any(chosen: Sequence[Attention], skipped: dict[str, str]) -> None:
    if not chosen:
        why = f": {_reasons(skipped)}." if skipped else "; it looks for a soft-max between two products, read linearly."
        raise PassError(f"the network has no attention whose heads can be removed{why}")


def _reasons(skipped: dict[str, str]) -> str:
    return listed([f"{name} ({reason})" for name, reason in skipped.items()])


def _choose(found: Sequence[Attention], scores: Sequence[Tensor], options: Options) -> list[list[int]]:
    """Numbers of the heads that go, for each attention; all but the best of each may."""
    ranked = []
    for index, values in enumerate(scores):
        order = torch.argsort(values, stable=True).tolist()
        for rank, head in enumerate(order[:-1]):
            ranked.append(
                (float(values[head]) if options.ranking == "global" else (rank + 1) / len(order), index, head)
            )
    ranked.sort()
    if options.ranking == "layer":
        count = sum(value <= options.ratio + 1e-9 for value, _, _ in ranked)
    else:
        count = round(options.ratio * sum(len(each.heads) for each in found))
    if not count:
        raise PassError(f"ratio {options.ratio} of the heads is none.", remedy="Ask for more.")
    return [sorted(head for _, place, head in ranked[:count] if place == index) for index in range(len(found))]


def _scores(found: Sequence[Attention], options: Options, evidence: Evidence) -> list[Tensor]:
    """Importance of each head, [heads], with mean 1 in each layer."""
    if options.importance == "weight":
        scores = [_by_weight(evidence.network, attention) for attention in found]
    else:
        scores = _by_samples(found, options.importance == "taylor", evidence)
    return [values / values.mean().clamp_min(1e-30) for values in scores]


def _by_weight(network: Any, attention: Attention) -> Tensor:
    value, out = (network.get_submodule(str(attention.layers[place].target)).weight.detach() for place in (2, 3))
    return torch.stack([(out[:, head.out] @ value[head.value]).norm() for head in attention.heads])


def _by_samples(found: Sequence[Attention], gradients: bool, evidence: Evidence) -> list[Tensor]:
    """Mean |gate's gradient| of each head (Michel et al., 2019, eq. 2), or the mean norm of what it adds."""
    seen: dict[str, Tensor] = {}
    network: Any = evidence.network
    paths = [str(attention.layers[3].target) for attention in found]
    hooks = [network.get_submodule(path).register_forward_pre_hook(_keep(seen, path)) for path in paths]
    totals = [torch.zeros(len(attention.heads)) for attention in found]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evidence.seed)
        try:
            for inputs, labels in batches(evidence.samples, evidence.batch):
                network.zero_grad(set_to_none=True)
                loss = loss_of(evidence, inputs, labels)
                if gradients:
                    loss.backward()
                for total, attention, path in zip(totals, found, paths, strict=True):
                    total += _measured(network.get_submodule(path).weight, attention, seen[path], gradients)
        finally:
            for hook in hooks:
                hook.remove()
            network.zero_grad(set_to_none=True)
    return totals


def _keep(seen: dict[str, Tensor], path: str) -> Any:
    def hook(_module: Any, inputs: tuple[Tensor, ...]) -> None:
        seen[path] = inputs[0]
        if inputs[0].requires_grad:
            inputs[0].retain_grad()

    return hook


def _measured(weight: Tensor, attention: Attention, read: Tensor, gradients: bool) -> Tensor:
    columns = [head.out for head in attention.heads]
    with torch.no_grad():
        if not gradients:
            return torch.stack([(read[..., own] @ weight[:, own].T).norm(dim=-1).mean() for own in columns])
        assert read.grad is not None
        product = read * read.grad
        return torch.stack([product[..., own].sum().abs() for own in columns])
