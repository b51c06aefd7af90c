"""What the outputs of teacher and student are: kinds, spreads, and whether the one can be learned from the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgeopt.errors import PassError
from edgeopt.training.memory import Portions
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples

SURVEYED = 256
"""Samples from which the kind and the spread of the teacher's outputs are found."""
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Target:
    """What an output of the teacher is, hence what the student's is compared by.

    Attributes:
        kind: ``scores`` before a soft-max, ``probabilities`` behind it, real ``values``; ``other`` (integers) does not
            count.
        axis: The axis of the classes.
        spread: Variance of values over samples; a squared error is told in parts of it.
    """

    kind: Literal["scores", "probabilities", "values", "other"]
    axis: int = 1
    spread: float = 1.0

    def logits(self, output: Tensor) -> Tensor:
        """Scores whose soft-max is the output's distribution."""
        return output.clamp_min(LEAST_PROBABILITY).log() if self.kind == "probabilities" else output


def outputs_of(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All outputs of a network as a tuple."""
    outputs = network(*inputs)
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def survey(teacher: nn.Module, samples: Samples, outputs: Literal["auto", "classes", "values"]) -> tuple[Target, ...]:
    """Find what the teacher's outputs are.

    Args:
        teacher: In evaluation mode.
        samples: Of which the first `SURVEYED` are run.
        outputs: What the user says they are; ``auto`` takes distributions for what they are, and scores [N, C, ...] as
            such where the labels are classes. Without labels nobody can tell scores from values, and values they are.

    Raises:
        PassError: Not finite, or nothing real among them.
    """
    inputs, labels = samples.batch([0])
    first = demand_finite(teacher, inputs, "the teacher's")
    classes = outputs == "classes" or (outputs == "auto" and labels is not None and not labels.is_floating_point())
    seen = [_Seen(output, classes=classes, guess=outputs != "values") for output in first]
    count = min(len(samples), SURVEYED)
    most = min(32, Portions(teacher, samples, TrainingOptions()).most)
    for at in range(0, count, most):
        batch, _ = samples.batch(range(at, min(at + most, count)))
        for one, output in zip(seen, demand_finite(teacher, batch, "the teacher's"), strict=True):
            one.add(output)
    targets = tuple(one.target() for one in seen)
    if all(target.kind == "other" for target in targets):
        raise PassError("the teacher has no real outputs, from which a student could learn.")
    return targets


class _Seen:
    """What batches of an output have shown so far; the outputs themselves may be too large to keep."""

    def __init__(self, first: Tensor, *, classes: bool, guess: bool) -> None:
        self.real = first.is_floating_point()
        self.scores = classes and first.dim() > 1 and first.shape[1] > 1
        several = [axis for axis in (1, first.dim() - 1) if first.dim() > 1 and first.shape[axis] > 1]
        self.axes = dict.fromkeys(several if guess and self.real else [])
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, output: Tensor) -> None:
        if self.real:
            values = output.double()
            self.axes = {axis: None for axis in self.axes if _sums_to_one(values, axis)}
            self.count += values.numel()
            self.sum, self.squares = self.sum + float(values.sum()), self.squares + float(values.square().sum())

    def target(self) -> Target:
        if not self.real:
            return Target("other")
        if self.axes:
            return Target("probabilities", next(iter(self.axes)))
        if self.scores:
            return Target("scores")
        spread = self.squares / self.count - (self.sum / self.count) ** 2
        return Target("values", spread=spread if spread > LEAST_PROBABILITY else 1.0)


def _sums_to_one(output: Tensor, axis: int) -> bool:
    return bool((output >= 0).all()) and bool(((output.sum(axis) - 1).abs() < 1e-3).all())


def demand_finite(network: nn.Module, inputs: Sequence[Tensor], whose: str) -> tuple[Tensor, ...]:
    """Outputs of a network.

    Raises:
        PassError: They are NaN or infinite; says `whose`.
    """
    with torch.no_grad():
        outputs = outputs_of(network, inputs)
    if not all(bool(torch.isfinite(output).all()) for output in outputs):
        raise PassError(
            f"{whose} outputs are not finite on the samples.", remedy="Check its weights, and the range of the samples."
        )
    return outputs


def demand_same_outputs(teacher: nn.Module, student: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Check that the student can learn what the teacher says.

    Raises:
        PassError: Other outputs, or some that are not finite; names those of both.
    """
    theirs = _described(demand_finite(teacher, inputs, "the teacher's"))
    ours = _described(demand_finite(student, inputs, "the student's"))
    if theirs != ours:
        raise PassError(
            f"teacher and student have different outputs: the teacher {theirs}, the student {ours}.",
            remedy="Give the student as many outputs, of the same sizes and in the same order.",
        )


def _described(outputs: Sequence[Tensor]) -> str:
    kinds = (str(output.dtype).removeprefix("torch.") for output in outputs)
    return ", ".join(f"{kind}{list(output.shape)}" for kind, output in zip(kinds, outputs, strict=True))
