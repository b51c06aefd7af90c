"""Trains the network further on labels, with what the passes before have left of it.

Source: the retraining step of Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural
Networks, 2015, §3; the loop, its schedules and its choice of the best weights are `edgeopt.training`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `fine_tune`.

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples of a step.
        batch: ``fixed``, ``random``, or ``tied``: growing instead of a falling learning rate.
        learning_rate: The highest of the training.
        optimiser: Rule of a step.
        schedule: How the learning rate falls.
        warmup: Share of the training in which the rate rises.
        momentum: Of ``momentum`` and ``rmsprop``.
        weight_decay: Of weights, not of biases and normalisation.
        clip_norm: Largest norm of the gradients; 0 does not clip.
        patience: Epochs without a better validation loss after which to stop; 0 never stops early.
        validation_share: Share of the training samples that is held out to choose the best weights, 0 to 0.5.
        freeze_norms: Leave running statistics of batch normalisation alone.
        freeze: Names of nodes that do not learn; a name stands for all below it: ``/blocks/blocks.0``.
        train_last: Only so many last layers learn; 0: all.
        keep_zeros: Weights that are zero stay zero: what was pruned stays pruned.
        max_seconds: The training ends after this time with what it has.
        processes: Processes that share each batch.
        device: ``cpu`` or ``cuda``.
    """

    epochs: int = 10
    batch_size: int = 32
    batch: Literal["fixed", "random", "tied"] = "fixed"
    learning_rate: float = 1e-3
    optimiser: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adamw"
    schedule: Literal["fixed", "step", "linear", "exponential", "cosine"] = "cosine"
    warmup: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    patience: int = 0
    validation_share: float = 0.1
    freeze_norms: bool = False
    freeze: tuple[str, ...] = ()
    train_last: int = 0
    keep_zeros: bool = True
    max_seconds: float = 1800.0
    processes: int = 1
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        from edgeopt.training.options import TrainingOptions, same_named

        TrainingOptions(**same_named(self))
        if self.train_last < 0:
            raise ValueError(f"train_last is {self.train_last}, must be at least 0")


class FineTune(Pass):
    """Trains all or the last layers on labelled samples and keeps what is best on held-out ones.

    Wins back what pruning or factorising lost, mostly more than any recovery without labels; it needs labels, makes
    nothing smaller or faster itself, and takes clustered or rounded weights off their grid, so it goes before those.
    """

    name: ClassVar[str] = "fine_tune"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    trains: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with trained weights.

        Raises:
            PassError: No labels, nothing to freeze under a name, nothing left to train, or the training diverged.
            ModelError: The network cannot be trained.
            DataError: Samples or labels that do not fit.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes._training import train_pass, training_of, zeros_kept

        network = import_onnx(source)
        samples = training_of(context, network.input_names, labelled=True)
        notes = self._freeze(network)
        keep = zeros_kept(network) if self.options.keep_zeros else None
        notes += train_pass(network, samples, self.options, context, after_step=keep, best_after=0)
        export_onnx(network, source, destination)
        return PassReport(notes=notes)

    def _freeze(self, network: Any) -> tuple[str, ...]:
        from edgeopt.training.transfer import freeze, freeze_trunk

        frozen: tuple[str, ...] = ()
        if self.options.freeze:
            frozen = freeze(network, self.options.freeze, network.layer_names)
        if self.options.train_last:
            frozen = freeze_trunk(network, self.options.train_last)
        total = len(list(network.parameters()))
        return (f"{len(frozen)} of {total} weight tensors did not learn (frozen)",) if frozen else ()
