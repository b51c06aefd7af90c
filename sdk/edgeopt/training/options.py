"""What a user may say about a training, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

Schedule = Literal["fixed", "step", "linear", "exponential", "cosine"]
Optimiser = Literal["sgd", "momentum", "rmsprop", "adam", "adamw"]
BatchRule = Literal["fixed", "random", "tied"]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        epochs: Passes over the training samples, at least 1.
        batch_size: Samples of a step, at least 1; all processes together.
        batch: ``fixed``; ``random``, drawn anew for each step between half and double; ``tied`` to the learning rate:
            the batch grows where the schedule would lower the rate (Smith, Kindermans, Ying, Le: Don't Decay the
            Learning Rate, Increase the Batch Size, 2018), up to a tenth of the samples.
        learning_rate: Of the first step after warm-up, > 0.
        optimiser: See `optimisers`.
        momentum: Of ``momentum`` and ``rmsprop``, 0 to below 1.
        weight_decay: Of tensors with two dimensions or more, at least 0.
        schedule: How the learning rate falls; see `schedules`.
        warmup: Share of the training in which the rate rises from zero, 0 to below 1.
        clip_norm: Largest norm of all gradients together; 0 does not clip.
        patience: Epochs without a better validation loss after which to stop; 0 never stops early.
        validation_share: Share of the samples that is held out to tell the best weights, 0 to 0.5.
        best_after: Epochs after which weights begin to count as the best: 0 lets those before the training win too,
            ``epochs`` takes the last ones. Trainings that change the network step by step wait until it is whole.
        norm_penalty: Weight of the L1 norm of batch and group normalisation's scales (Liu et al.: Learning Efficient
            Convolutional Networks through Network Slimming, 2017, eq. 1).
        l1: Weight of the L1 norm of all weights.
        group_lasso: Weight of the sum of the output channels' L2 norms (Wen et al.: Learning Structured Sparsity in
            Deep Neural Networks, 2016, eq. 4).
        freeze_norms: Leave batch normalisation's running statistics alone; right for small batches.
        max_seconds: The training ends after this time with what it has.
        processes: Processes that share each batch.
        device: ``cpu``, or ``cuda`` for one GPU.
    """

    epochs: int = 10
    batch_size: int = 32
    batch: BatchRule = "fixed"
    learning_rate: float = 1e-3
    optimiser: Optimiser = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    clip_norm: float = 0.0
    patience: int = 0
    validation_share: float = 0.1
    best_after: int = 1
    norm_penalty: float = 0.0
    l1: float = 0.0
    group_lasso: float = 0.0
    freeze_norms: bool = False
    max_seconds: float = 1800.0
    processes: int = 1
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        problems = [*self._choices(), *self._counts(), *self._reals()]
        if problems:
            raise ValueError("; ".join(problems))

    def _choices(self) -> list[str]:
        allowed = {
            "batch": ("fixed", "random", "tied"),
            "optimiser": ("sgd", "momentum", "rmsprop", "adam", "adamw"),
            "schedule": ("fixed", "step", "linear", "exponential", "cosine"),
            "device": ("cpu", "cuda"),
        }
        return [
            f"{name} is {getattr(self, name)!r}, must be one of {', '.join(values)}"
            for name, values in allowed.items()
            if getattr(self, name) not in values
        ]

    def _counts(self) -> list[str]:
        least = {"epochs": 1, "batch_size": 1, "patience": 0, "best_after": 0, "processes": 1}
        found = [f"{key} is {getattr(self, key)}, must be at least {low}" for key, low in least.items()
                 if getattr(self, key) < low]  # fmt: skip
        if self.best_after > self.epochs:
            found.append(f"best_after is {self.best_after}, more than the {self.epochs} epochs")
        if self.processes > 1 and self.device != "cpu":
            found.append(f"processes is {self.processes}, but several processes train on the cpu only")
        return found

    def _reals(self) -> list[str]:
        ranges = {
            "learning_rate": (0, math.inf, "above 0"),
            "momentum": (None, 1, "at least 0 and below 1"),
            "warmup": (None, 1, "at least 0 and below 1"),
            "max_seconds": (0, math.inf, "above 0"),
        }
        ranges |= {
            name: (None, math.inf, "at least 0")
            for name in ("weight_decay", "clip_norm", "norm_penalty", "l1", "group_lasso")
        }
        found = []
        for name, (above, below, words) in ranges.items():
            value = getattr(self, name)
            low = value > above if above is not None else value >= 0
            if not (low and value < below):
                found.append(f"{name} is {value}, must be {words}")
        if not 0 <= self.validation_share <= 0.5:
            found.append(f"validation_share is {self.validation_share}, must be between 0 and 0.5")
        return found


def same_named(options: Any) -> dict[str, Any]:
    """Those fields of a pass's options that the engine knows by the same name."""
    known = {field.name for field in fields(TrainingOptions)}
    return {field.name: getattr(options, field.name) for field in fields(options) if field.name in known}
