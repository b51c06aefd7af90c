"""Which weights of a torch network go to zero: importances, patterns, masks, and a network that keeps to its masks.

Sources: Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, 2015 (magnitude);
Molchanov, Mallya, Tyree, Frosio, Kautz: Importance Estimation for Neural Network Pruning, 2019, eq. 8 (gradient x
weight); Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars: Memory Aware Synapses, 2018, eq. 4 (gradients of the
squared outputs, which need no labels); Mishra et al.: Accelerating Sparse Deep Neural Networks, 2021, §3 (2:4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgeopt.passes.quantising.torch_weights import LayerWeight
from edgeopt.training.losses import Loss

Importances = dict[str, Tensor]
Masks = dict[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """What may go.

    Attributes:
        neurons: Whole output channels rather than single connections.
        everywhere: Importances are compared over all layers rather than within each.
        kept: With `group`: at most this many of each group stay; 0: no pattern.
        group: Consecutive weights along the input channels.
    """

    neurons: bool = False
    everywhere: bool = True
    kept: int = 0
    group: int = 0


def magnitudes(network: nn.Module, weights: Sequence[LayerWeight]) -> Importances:
    """|w| of each weight."""
    return {weight.name: weight.of(network).detach().abs() for weight in weights}


def from_gradients(
    network: nn.Module,
    weights: Sequence[LayerWeight],
    batches: Sequence[tuple[tuple[Tensor, ...], Tensor | None]],
    loss: Loss | None,
    kind: Literal["gradient", "taylor"],
) -> Importances:
    """Mean over batches of |g| or |g w|.

    Args:
        network: In evaluation mode; its gradients are left alone.
        weights: Whose importances are wanted.
        batches: Inputs and labels.
        loss: On the labels; ``None``: the squared outputs.
        kind: ``gradient`` or ``taylor``.
    """
    parameters = [weight.of(network) for weight in weights]
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    with torch.enable_grad():
        for inputs, labels in batches:
            value = loss(network, inputs, labels) if loss else squared_outputs(network, inputs)
            for total, gradient in zip(sums, torch.autograd.grad(value, parameters, allow_unused=True), strict=True):
                if gradient is not None:
                    total += gradient.abs()
    if kind == "taylor":
        sums = [total * parameter.detach().abs() for total, parameter in zip(sums, parameters, strict=True)]
    return {weight.name: total / len(batches) for weight, total in zip(weights, sums, strict=True)}


def squared_outputs(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Mean over samples of the squared norm of all real outputs."""
    outputs = network(*inputs)
    parts = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return torch.stack([part.square().sum() / len(part) for part in parts if part.is_floating_point()]).sum()


def chosen(
    network: nn.Module, weights: Sequence[LayerWeight], importances: Mapping[str, Tensor], share: float, rule: Rule
) -> Masks:
    """Masks (1 stays, 0 goes) after which exactly the least important `share` is zero.

    What is zero already goes first; of each layer the most important weight stays, whatever the share. Equals go in
    the order of the network.

    Args:
        network: Whose weights.
        weights: Those that may go.
        importances: By name of the weight.
        share: Of connections, or of neurons, 0 to 1.
        rule: What may go; with a pattern, at most what it lets go.
    """
    scores = {weight.name: _scores(network, weight, importances[weight.name], rule) for weight in weights}
    groups = [list(scores)] if rule.everywhere else [[name] for name in scores]
    masks: Masks = {}
    for names in groups:
        flat = torch.cat([scores[name].reshape(-1) for name in names])
        count = min(round(share * len(flat)), int(torch.isfinite(flat).sum()))
        kept = torch.ones(len(flat), device=flat.device)
        kept[torch.sort(flat, stable=True).indices[:count]] = 0
        for name, part in zip(names, kept.split([scores[name].numel() for name in names]), strict=True):
            masks[name] = part.reshape(scores[name].shape)
    return masks


def share_of(rule: Rule, share: float) -> float:
    """The share that goes in the end: the pattern's where there is one."""
    return 1 - rule.kept / rule.group if rule.group else share


def fits(weight: LayerWeight, parameter: Tensor, rule: Rule) -> bool:
    """Whether the pattern divides the input channels of a weight."""
    return not rule.group or parameter.shape[1 - weight.axis] % rule.group == 0


class Masked(nn.Module):  # type: ignore[misc]
    """A network with the masks of its weights, which a checkpoint keeps along.

    Args:
        network: The network.
        weights: Those that have masks; at first what is zero is masked.
        neurons: Whether masks go by output channels, whose biases then go too.
    """

    def __init__(self, network: nn.Module, weights: Sequence[LayerWeight], *, neurons: bool = False) -> None:
        super().__init__()
        self.network, self.weights, self._neurons = network, tuple(weights), neurons
        for index, weight in enumerate(self.weights):
            self.register_buffer(f"mask_{index}", (weight.of(network).detach() != 0).float())

    def forward(self, *inputs: Tensor) -> Any:
        """The network's outputs."""
        return self.network(*inputs)

    def take(self, masks: Masks) -> None:
        """Other masks."""
        for index, weight in enumerate(self.weights):
            mask = self.get_buffer(f"mask_{index}")
            mask.copy_(masks[weight.name].expand_as(mask))

    def apply_masks(self) -> None:
        """Set what is masked to zero."""
        with torch.no_grad():
            for index, weight in enumerate(self.weights):
                mask = self.get_buffer(f"mask_{index}")
                weight.of(self.network).mul_(mask)
                if self._neurons:
                    self._silence(weight, mask.movedim(weight.axis, 0).flatten(1).any(1))

    def _silence(self, weight: LayerWeight, alive: Tensor) -> None:
        """Set the biases of masked neurons to zero."""
        bias = getattr(self.network.get_submodule(weight.layer), "bias", None)
        if isinstance(bias, Tensor):
            bias.mul_(alive)

    @property
    def zeros(self) -> float:
        """Share of the weights that is zero."""
        parameters = [weight.of(self.network) for weight in self.weights]
        zeros = sum(int((parameter == 0).sum()) for parameter in parameters)
        return zeros / sum(int(parameter.numel()) for parameter in parameters)


def _scores(network: nn.Module, weight: LayerWeight, importance: Tensor, rule: Rule) -> Tensor:
    """What goes first has the lowest score; infinite: stays."""
    zero = weight.of(network).detach() == 0
    scores = torch.where(zero, 0.0, importance)
    if rule.neurons:
        others = [axis for axis in range(scores.ndim) if axis != weight.axis]
        scores, zero = scores.mean(others, keepdim=True), zero.all(others[0], keepdim=True)
        for axis in others[1:]:
            zero = zero.all(axis, keepdim=True)
    scores = torch.where(zero, -1.0, scores)
    if rule.group:
        return _within_pattern(scores, 1 - weight.axis, rule)
    scores.view(-1)[scores.reshape(-1).argmax()] = math.inf
    return scores


def _within_pattern(values: Tensor, axis: int, rule: Rule) -> Tensor:
    """Infinite scores for the `kept` most important of each group."""
    moved = values.movedim(axis, -1)
    groups = moved.reshape(-1, rule.group)
    staying = torch.sort(groups, dim=1, descending=True, stable=True).indices[:, : rule.kept]
    return groups.scatter(1, staying, math.inf).reshape(moved.shape).movedim(-1, axis).contiguous()
