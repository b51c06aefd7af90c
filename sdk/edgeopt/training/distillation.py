"""Losses that teach a student what its teacher computes: soft targets, values, hints and attention maps.

Sources: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (eq. 1; §2 for the factor T²);
Ba, Caruana: Do Deep Nets Really Need to be Deep?, 2014, §2.2 (regression on the values before the soft-max); Romero,
Ballas, Kahou, Chassang, Gatta, Bengio: FitNets, 2015, eq. 3; Zagoruyko, Komodakis: Paying More Attention to Attention,
2017, eq. 2. The teacher runs as the student trains, so that no outputs are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeopt.training._feature_pairs import Pair, captured, regressor
from edgeopt.training._outputs import LEAST_PROBABILITY, Target, outputs_of
from edgeopt.training.losses import loss_on_labels, supervised


def soft_targets(student: Tensor, teacher: Tensor, temperature: float, axis: int = 1) -> Tensor:
    """Divergence of the student's softened distribution from the teacher's, times T².

    Args:
        student: Scores before the soft-max, [N, C, ...]; log-probabilities serve as well.
        teacher: Of the same shape.
        temperature: T; at 1 the distributions are those of the networks, above they tell more of the small classes.
        axis: The axis of the classes.

    Returns:
        A scalar, mean over samples and positions; T² keeps its gradient's size whatever T is.
    """
    log_student = functional.log_softmax(student / temperature, axis)
    log_teacher = functional.log_softmax(teacher / temperature, axis)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(axis).mean()
    return temperature**2 * divergence


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """FitNets' squared difference of two feature maps of one shape, in parts of the teacher's mean square."""
    scale = teacher.square().mean().clamp_min(LEAST_PROBABILITY)
    return functional.mse_loss(student, teacher) / scale


def attention_difference(student: Tensor, teacher: Tensor, axis: int = 1) -> Tensor:
    """Squared distance of the normalised attention maps, mean over samples; 0 to 2.

    Args:
        student: Features; as many positions as `teacher`, any number of channels.
        teacher: Features.
        axis: The axis of the channels.
    """
    return (_attention(student, axis) - _attention(teacher, axis)).square().sum(1).mean()


def _attention(features: Tensor, axis: int) -> Tensor:
    """Mean square over the channels at every position, as a unit vector; [N, positions]."""
    return functional.normalize(features.square().mean(axis).flatten(1), dim=1)


def output_difference(target: Target, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The loss of an output: soft targets, or for values the squared difference in parts of the teacher's variance."""
    if target.kind == "values":
        return functional.mse_loss(student, teacher) / target.spread
    return soft_targets(target.logits(student), target.logits(teacher), temperature, target.axis)


@dataclass(frozen=True)
class Weights:
    """How the parts of the loss are mixed.

    Attributes:
        temperature: Of the soft targets.
        labels: Share of the labels' loss, 0 to 1; the teacher has the rest.
        hints: Factor of the features' loss.
        attention: Factor of the attention maps' loss.
    """

    temperature: float = 4.0
    labels: float = 0.1
    hints: float = 1.0
    attention: float = 1.0


class Distillation(nn.Module):  # type: ignore[misc]
    """A `Loss` that compares a student with its teacher; its regressors train along.

    Args:
        teacher: Run in evaluation mode without gradients; no part of this module's state.
        targets: What its outputs are.
        weights: How parts are mixed.
        features: Layers whose outputs are compared.
        attention: Layers whose attention maps are compared.
        user_loss: ``file.py:function`` for the labels' part; empty takes the one that fits the labels.
    """

    def __init__(
        self,
        teacher: nn.Module,
        targets: Sequence[Target],
        weights: Weights,
        *,
        features: Sequence[Pair] = (),
        attention: Sequence[Pair] = (),
        user_loss: str = "",
    ) -> None:
        super().__init__()
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple, so that it is no submodule
        self.targets, self.weights = tuple(targets), weights
        self.features = tuple(features)
        self.attention = tuple(pair for pair in attention if pair.positions > 1)
        self.regressors = nn.ModuleList(regressor(pair) for pair in features)
        self.user_loss = supervised(user_loss) if user_loss else None

    def forward(self, student: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        """The mixed loss of a batch, a scalar."""
        teacher, pairs = self._teacher[0].to(inputs[0].device), (*self.features, *self.attention)
        with torch.no_grad(), captured(teacher, [pair.teacher for pair in pairs]) as taught:
            theirs = outputs_of(teacher, inputs)
        with captured(student, [pair.student for pair in pairs]) as learned:
            ours = outputs_of(student, inputs)
        loss = self._outputs(ours, theirs)
        if labels is not None and self.weights.labels:
            loss = (1 - self.weights.labels) * loss + self.weights.labels * self._labelled(ours, inputs, labels)
        return loss + self._hints(learned, taught) + self._attention(learned, taught)

    def _outputs(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        parts = [
            output_difference(target, mine, wanted, self.weights.temperature)
            for target, mine, wanted in zip(self.targets, ours, theirs, strict=True)
            if target.kind != "other"
        ]
        return torch.stack(parts).mean()

    def _labelled(self, ours: tuple[Tensor, ...], inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        if self.user_loss is None:
            return loss_on_labels(ours[0], labels)
        return self.user_loss(_Says(ours), inputs, labels)

    def _hints(self, learned: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor | float:
        parts = [
            hint(model(learned[pair.student]), taught[pair.teacher])
            for pair, model in zip(self.features, self.regressors, strict=True)
        ]
        return self.weights.hints * torch.stack(parts).mean() if parts else 0.0

    def _attention(self, learned: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor | float:
        parts = [
            attention_difference(learned[pair.student], taught[pair.teacher], pair.axis) for pair in self.attention
        ]
        return self.weights.attention * torch.stack(parts).mean() if parts else 0.0


class _Says(nn.Module):  # type: ignore[misc]
    """Stands for a network whose outputs are known already."""

    def __init__(self, outputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.outputs = outputs[0] if len(outputs) == 1 else outputs

    def forward(self, *_inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.outputs
