"""Batch normalisation's statistics measured anew on calibration inputs: the cheapest recovery, without labels.

Source: Li, Wu, Su, Wang: EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning, 2020, §3.3 (adaptive
batch normalisation): pruned layers put out other distributions than those whose mean and variance are in the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `recalibrate`.

    Attributes:
        samples: Most calibration samples that count.
        batch_size: Samples over which one mean and variance are taken; the result is their mean over batches.
        max_seconds: Time for it, on top of what every pass has.
    """

    samples: int = 1024
    batch_size: int = 64
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples is {self.samples}, must be at least 2")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, must be at least 2")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, must be above 0")


class Recalibrate(Pass):
    """Takes batch normalisation's mean and variance anew from calibration inputs: seconds of work, no labels.

    Helps behind pruning, factorising and coarse weights in networks with batch normalisation; does nothing for those
    without (most transformers), and `refit` or `distil` bring back more.
    """

    name: ClassVar[str] = "recalibrate"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0  # repairs what a pass before destroyed: judged by accuracy
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset()  # without any it steps aside, the recipe goes on
    optional: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with other statistics.

        Raises:
            PassError: No calibration samples, or no batch normalisation in the network.
            ModelError: The network cannot be taken into torch.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.recovery.batch_norm import recalibrate
        from edgeopt.passes.recovery.looking import batch_that_fits, calibration_of

        network = import_onnx(source)
        samples = calibration_of(context, network.input_names, self.options.samples)
        if batch_that_fits(network, samples, 2) < 2:
            raise PassError("statistics over samples cannot be taken: the network takes one sample at a time.")
        count = recalibrate(network, samples, self.options.batch_size)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=(f"statistics of {count} batch normalisations from {len(samples)} samples",))
