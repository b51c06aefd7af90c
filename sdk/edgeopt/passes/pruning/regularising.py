"""The training of `regularise`: its loss, its penalty, and what came of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes._training import train_pass
from edgeopt.passes.pruning.channels import Dependencies, Group, prunable
from edgeopt.passes.pruning.importance import rows
from edgeopt.passes.pruning.subject import data_of
from edgeopt.passes.regularise import STRENGTHS, Options
from edgeopt.training._outputs import survey
from edgeopt.training.distillation import Distillation, Weights
from edgeopt.training.losses import Loss, check_all_labels, supervised
from edgeopt.training.samples import Samples

FEW_STEPS = 200
"""Under so many steps a training seldom settles."""

SMALL = 0.1
"""Share of a layer's mean norm under which a channel counts as nearly gone."""


def regularise(network: Any, options: Options, context: PassContext) -> tuple[str, ...]:
    """Train a network with a penalty, in place.

    Args:
        network: From `import_onnx`.
        options: How.
        context: Samples, loss and seed.

    Returns:
        Notes: what it learned from, and how many channels are nearly gone.

    Raises:
        PassError: See `Regularise.apply`.
    """
    data = data_of(context, network.input_names)
    inputs = data.inputs(network)
    groups = _groups(network, inputs)
    _demand_something(network, groups, options.penalty)
    strength = options.strength or STRENGTHS[options.penalty]
    samples = data.judged
    loss, words = _loss(network, samples, context)
    if options.penalty == "group_lasso":
        loss = _penalised(loss, groups, strength)
    before = _small(groups)
    name = {"bn_scale": "norm_penalty", "l1": "l1", "l2": "weight_decay"}.get(options.penalty)
    changes: dict[str, Any] = {name: strength} if name else {}
    notes = train_pass(network, samples, options, context, loss=loss, best_after=options.epochs, **changes)
    found = f"{options.penalty} {strength:g}, learning {words} of {len(samples)} samples"
    if groups:
        units = sum(group.units for group in groups)
        found += f": {before} of {units} channels were nearly gone before, {_small(groups)} are now"
    steps = options.epochs * len(samples) // options.batch_size
    if steps < FEW_STEPS:
        notes = (*notes, f"about {steps} steps are few for a penalty: give more samples or epochs")
    return (found, *notes)


def _groups(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Group]:
    """What prune_channels could remove; the layers are the network's own, so they are seen as they train."""
    graph = Dependencies(network, inputs)
    roots, _ = prunable(network, inputs, list(graph.groups()))
    return [graph.group(root) for root in roots]


def _demand_something(network: nn.Module, groups: Sequence[Group], penalty: str) -> None:
    if penalty == "group_lasso" and not groups:
        raise PassError("no layer of the network can lose channels, so group_lasso has nothing to act on.")
    if penalty == "bn_scale" and not any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise PassError("the network has no batch normalisation for bn_scale to act on.", remedy="Use group_lasso.")


def _loss(network: nn.Module, samples: Samples, context: PassContext) -> tuple[Loss, str]:
    if samples.labelled:
        if not context.loss:
            check_all_labels(network, samples)
        return supervised(context.loss), "the labels"
    teacher = copy.deepcopy(network).eval()
    targets = survey(teacher, samples, "auto")
    return Distillation(teacher, targets, Weights(labels=0.0)), "the outputs"


def _penalised(loss: Loss, groups: Sequence[Group], strength: float) -> Loss:
    def whole(network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        return loss(network, inputs, labels) + strength * torch.stack([_norms(group).sum() for group in groups]).sum()

    return whole


def _norms(group: Group) -> Tensor:
    """L2 norm of all weights that go with each unit, [units]."""
    total = torch.zeros(group.units)
    for member in group.members:
        for weights in rows(member):
            total = total.index_add(0, member.units, weights.square().sum(1))
    return (total + 1e-12).sqrt()


def _small(groups: Sequence[Group]) -> int:
    with torch.no_grad():
        norms = [_norms(group) for group in groups]
    return sum(int((values < SMALL * values.mean()).sum()) for values in norms)
