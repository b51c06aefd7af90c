"""Training that makes pruning cheaper: a penalty drives what will be pruned towards zero beforehand.

Sources: Wen, Wu, Wang, Chen, Li: Learning Structured Sparsity in Deep Neural Networks, 2016, eq. 3 (group lasso);
Fang, Ma, Song, Bi Mi, Wang: DepGraph, 2023, §3.4 (over what pruning removes together); Liu et al.: Learning Efficient
Convolutional Networks through Network Slimming, 2017, eq. 1 (scales of batch normalisation); Han, Pool, Tran, Dally:
Learning both Weights and Connections, 2015, §3.1 (L1 and L2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport

STRENGTHS = {"group_lasso": 3e-2, "bn_scale": 1e-1, "l1": 1e-3, "l2": 1e-1}
"""What `strength` 0 stands for."""


@dataclass(frozen=True)
class Options:
    """Options of `regularise`.

    Attributes:
        penalty: ``group_lasso`` on the channels that prune_channels would remove together, ``bn_scale`` on the scales
            of batch normalisation (for importance bn_scale), ``l1`` or ``l2`` on single weights (for prune_weights).
        strength: Weight of the penalty against the loss, for ``l2`` the weight decay; 0 takes one that suits.
        epochs: Passes over the samples.
        batch_size: Samples of a step.
        learning_rate: Of the first step after warm-up.
        optimiser: Rule of a step.
        schedule: How the learning rate falls.
        max_seconds: The training ends after this time with what it has.
    """

    penalty: Literal["group_lasso", "bn_scale", "l1", "l2"] = "group_lasso"
    strength: float = 0.0
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-3
    optimiser: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adamw"
    schedule: Literal["fixed", "step", "linear", "exponential", "cosine"] = "cosine"
    max_seconds: float = 1800.0

    def __post_init__(self) -> None:
        from edgeopt.training.options import TrainingOptions, same_named

        if not 0 <= self.strength < 1e6:
            raise ValueError(f"strength is {self.strength}, must be at least 0 and below a million")
        TrainingOptions(**same_named(self))


class Regularise(Pass):
    """Trains with a penalty that gathers what matters in few channels or weights; goes before a pruning pass.
    What is pruned afterwards loses far less, most of all where much is to go at once; alone it makes nothing smaller or
    faster, and with few samples (under some hundred steps of training) it does harm.
    """

    name: ClassVar[str] = "regularise"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with the new weights; without labels it learns from itself as it was.

        Raises:
            PassError: No calibration inputs, nothing that the penalty could act on, or the training diverged.
            ModelError: The network cannot be imported; names the operator.
            DataError: Samples or labels that do not fit.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.pruning.regularising import regularise

        network = import_onnx(source)
        notes = regularise(network, self.options, context)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=notes)
