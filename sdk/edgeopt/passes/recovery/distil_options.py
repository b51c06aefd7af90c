"""What can be said about a distillation, alike for all passes that do one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from edgeopt.training.options import Optimiser, Schedule, TrainingOptions

AT_LEAST_ZERO = ("features_weight", "attention_weight")


@dataclass(frozen=True)
class DistilOptions:
    """How a student learns from its teacher.

    Attributes:
        temperature: Of the soft targets; above 1 they tell more of the classes that the teacher thinks unlikely.
        labels_weight: Share of the labels' loss where the training samples have labels, 0 to 1.
        outputs: What the network's outputs are: scores of ``classes`` (before a soft-max), or ``values`` to come close
            to; ``auto`` sees it from labels and outputs.
        features: Layers whose outputs the student has to reproduce: ``none``, ``auto`` (the last one of each size) or
            names with commas between, ``teacher's=student's`` where they differ.
        features_weight: Factor of their loss.
        attention: Layers whose attention maps it has to reproduce; written as `features`.
        attention_weight: Factor of their loss.
        epochs: Passes over the samples.
        batch_size: Samples of a step.
        learning_rate: Of the first step after warm-up.
        optimiser: See `edgeopt.training.optimisers`.
        schedule: How the learning rate falls.
        weight_decay: Of tensors with two dimensions or more.
        patience: Epochs without a better validation loss after which to stop; 0 never stops early.
        max_seconds: Time for the training, on top of what every pass has; it ends then with the best so far.
    """

    temperature: float = 4.0
    labels_weight: float = 0.1
    outputs: Literal["auto", "classes", "values"] = "auto"
    features: str = "none"
    features_weight: float = 1.0
    attention: str = "none"
    attention_weight: float = 1.0
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 2e-3
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "cosine"
    weight_decay: float = 1e-4
    patience: int = 0
    max_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < 1e3:
            raise ValueError(f"temperature is {self.temperature}, must be above 0 and below 1000")
        if not 0 <= self.labels_weight <= 1:
            raise ValueError(f"labels_weight is {self.labels_weight}, must be between 0 and 1")
        for name in AT_LEAST_ZERO:
            if not 0 <= getattr(self, name) < 1e6:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0 and below a million")
        TrainingOptions(
            **{field.name: getattr(self, field.name) for field in fields(TrainingOptions) if hasattr(self, field.name)}
        )
