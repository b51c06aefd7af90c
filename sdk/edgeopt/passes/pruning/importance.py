"""How much each unit of a channel group matters: weights, gradients or activations, reduced to one number a unit.

Torch-Pruning has most of these too, but in 1.6.1 its Taylor criterion leaves batch normalisation out and mixes channels
up behind a flattening, its Hessian forgets all samples but the last, its FPGM takes distances of squares, and its
activation criterion returns nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgeopt.passes.pruning.channels import RECURRENT, Group, Member, readers, writers
from edgeopt.training.losses import Loss, first_output
from edgeopt.training.samples import Samples

Importance = Literal["l1", "l2", "fpgm", "bn_scale", "taylor", "hessian", "activation", "entropy", "random"]
FROM_GRADIENTS = frozenset({"taylor", "hessian"})
FROM_ACTIVATIONS = frozenset({"activation", "entropy"})

MOST_SAMPLES = 128
_BINS = 32


@dataclass(frozen=True)
class Evidence:
    """What scores may be taken from.

    Attributes:
        network: In evaluation mode.
        samples: Typical inputs, with labels or not.
        loss: On labels; ``None`` takes the curvature of the outputs themselves.
        seed: Of random projections and random scores.
        batch: Samples that the network takes at once.
    """

    network: nn.Module
    samples: Samples
    loss: Loss | None
    seed: int
    batch: int


def score(kind: Importance, groups: Sequence[Group], evidence: Evidence) -> list[Tensor]:
    """Importance of each unit of each group, [units], with mean 1 in each group so that groups can be compared.

    * ``l1``, ``l2``: Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, 2017, §3.1, summed
      over the layers of the group (Fang et al.: DepGraph, 2023, eq. 7).
    * ``fpgm``: distance to the others; He, Liu, Wang, Hu, Yang: Filter Pruning via Geometric Median, 2019, eq. 5.
    * ``bn_scale``: Liu et al.: Network Slimming, 2017, §3; ``l2`` where there is no batch normalisation.
    * ``taylor``: Molchanov, Mallya, Tyree, Frosio, Kautz: Importance Estimation for Network Pruning, 2019, eq. 8.
    * ``hessian``: LeCun, Denker, Solla: Optimal Brain Damage, 1990, eq. 5, with squared gradients for the diagonal.
    * ``activation``: mean |x| times the |weights| that read it; Sun, Liu, Bair, Kolter: Wanda, 2024, eq. 1, by channel.
    * ``entropy``: of the pooled activations; Luo, Wu: An Entropy-based Pruning Method for CNN Compression, 2017, eq. 2.

    Gradients are of the loss on labels. Without labels they are of random projections of the outputs: the gradient of
    a distillation from the network itself is zero, and their squares are the diagonal of its Gauss-Newton matrix.
    """
    if kind in FROM_GRADIENTS:
        scores = _from_gradients(kind, groups, evidence)
    elif kind in FROM_ACTIVATIONS:
        scores = _from_activations(kind, groups, evidence)
    elif kind == "random":
        generator = torch.Generator().manual_seed(evidence.seed)
        scores = [torch.rand(group.units, generator=generator) for group in groups]
    else:
        scores = [_from_weights(kind, group) for group in groups]
    return [values / values.mean().clamp_min(1e-30) for values in scores]


def _from_weights(kind: Importance, group: Group) -> Tensor:
    if kind == "bn_scale":
        norms = [member for member in group.members if isinstance(member.module, _BatchNorm)]
        scales = _summed(group, norms, lambda weights: weights.abs().sum(1))
        return scales if norms and bool(scales.any()) else _from_weights("l2", group)
    if kind == "fpgm":
        written = [member for member in group.members if member.side == "out"]
        return _summed(group, written, lambda filters: torch.cdist(filters, filters).sum(1))
    power = 1 if kind == "l1" else 2
    return _summed(group, group.members, lambda weights: weights.abs().pow(power).sum(1))


def _summed(group: Group, members: Sequence[Member], measure: Callable[[Tensor], Tensor]) -> Tensor:
    total = torch.zeros(group.units)
    for member in members:
        for weights in rows(member):
            total.index_add_(0, member.units, measure(weights.detach()))
    return total


def rows(member: Member, gradient: bool = False) -> Iterator[Tensor]:
    """A member's weights (or gradients), one row for each of its channels in the group, [n, k]."""
    for weights in readers(member, gradient) if member.side == "in" else writers(member, gradient):
        yield weights[member.channels].flatten(1)


def _from_gradients(kind: Importance, groups: Sequence[Group], evidence: Evidence) -> list[Tensor]:
    """Squared first-order change of the loss (Taylor) or second-order change (Hessian), averaged over batches."""
    totals = [torch.zeros(group.units) for group in groups]
    size = 1 if kind == "hessian" else evidence.batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evidence.seed)
        for inputs, labels in batches(evidence.samples, size):
            evidence.network.zero_grad(set_to_none=True)
            loss_of(evidence, inputs, labels).backward()
            for total, group in zip(totals, groups, strict=True):
                total += _change(group, squared=kind == "hessian")
    evidence.network.zero_grad(set_to_none=True)
    return totals


def loss_of(evidence: Evidence, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
    """The loss on labels, or a random projection of the first output."""
    if evidence.loss is not None:
        return evidence.loss(evidence.network, inputs, labels)
    output = first_output(evidence.network(*inputs))
    return (output * torch.randn_like(output)).sum() / len(output) ** 0.5


def _change(group: Group, *, squared: bool) -> Tensor:
    total = torch.zeros(group.units)
    for member in group.members:
        for weights, gradients in zip(rows(member), rows(member, gradient=True), strict=True):
            product = weights.detach() * gradients
            total.index_add_(0, member.units, (product.square() if squared else product).sum(1))
    return total if squared else total.square()


def batches(samples: Samples, size: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
    """The first `MOST_SAMPLES` samples."""
    count = min(len(samples), MOST_SAMPLES)
    for start in range(0, count, size):
        yield samples.batch(range(start, min(start + size, count)))


def _from_activations(kind: Importance, groups: Sequence[Group], evidence: Evidence) -> list[Tensor]:
    readings = _read({member.module for group in groups for member in group.members if member.side == "in"}, evidence)
    measured = {module: _entropy(pooled) if kind == "entropy" else size for module, (pooled, size) in readings.items()}
    scores = []
    for group in groups:
        total = torch.zeros(group.units)
        for member in group.members:
            if member.side == "in" and member.module in measured:
                values = measured[member.module][member.channels]
                if kind == "activation":
                    values = values * torch.stack([weights.abs().sum(1) for weights in rows(member)]).sum(0)
                total.index_add_(0, member.units, values.detach())
        scores.append(total)
    return scores


def _read(layers: set[nn.Module], evidence: Evidence) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """What comes into layers: its mean over positions, [samples, channels], and mean magnitude, [channels]."""
    found: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].movedim(1, -1) if isinstance(module, _ConvNd) else inputs[0]
        if isinstance(module, RECURRENT) and not module.batch_first and x.ndim == 3:
            x = x.transpose(0, 1)
        flat = x.reshape(len(x), -1, x.shape[-1])
        found.setdefault(module, []).append((flat.mean(1), flat.abs().mean((0, 1))))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        for inputs, _ in batches(evidence.samples, evidence.batch):
            with torch.no_grad():
                evidence.network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        module: (torch.cat([pooled for pooled, _ in parts]), torch.stack([size for _, size in parts]).mean(0))
        for module, parts in found.items()
    }


def _entropy(pooled: Tensor) -> Tensor:
    """Entropy of each column's values in bins over the whole layer's range, [samples, channels] to [channels]."""
    low, high = pooled.min(), pooled.max()
    places = ((pooled - low) / (high - low).clamp_min(1e-12) * _BINS).long().clamp_max(_BINS - 1)
    shares = nn.functional.one_hot(places, _BINS).float().mean(0)
    return -(shares * shares.clamp_min(1e-12).log()).sum(-1)
