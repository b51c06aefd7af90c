"""Least squares, layer by layer: weights that make a pruned network's layers put out what the original's do.

Source: He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural Networks, 2017, eq. 1 and 2 (§3.1, second
step, and §3.2: on the inputs that the layers before it give now, to the outputs of the unmodified network).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `refit`.

    Attributes:
        ridge: Weight of leaving things as they are, in parts of the inputs' mean square: the more, the fewer samples.
        positions: Most positions of each sample's feature map that count, drawn at random.
        samples: Most calibration samples that count.
        max_seconds: Time for it, on top of what every pass has; layers for which it does not suffice stay.
    """

    ridge: float = 1e-3
    positions: int = 64
    samples: int = 512
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise ValueError(f"ridge is {self.ridge}, must be above 0")
        for name in ("positions", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, must be above 0")


class Refit(Pass):
    """Solves each layer's weights anew, without labels, so that it puts out what the original's layer did.

    Helps most right behind `prune_channels`, `prune_heads` or coarse weights: seconds instead of a training; cannot
    help where layers have other names than in the original, and comes before `recalibrate` and training, not after.
    """

    name: ClassVar[str] = "refit"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0  # repairs what a pass before destroyed: judged by accuracy
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    optional: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with refitted weights.

        Raises:
            PassError: No calibration samples, or no layer that could be refitted; says why for each.
            ModelError: The network cannot be taken into torch.
        """
        import time

        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.recovery.looking import batch_that_fits, calibration_of
        from edgeopt.passes.recovery.refitting import Refitting, refit

        deadline = time.monotonic() + self.options.max_seconds
        network, original = import_onnx(source), import_onnx(context.original or source)
        samples = calibration_of(context, network.input_names, self.options.samples)
        how = Refitting(
            ridge=self.options.ridge,
            positions=self.options.positions,
            deadline=deadline,
            seed=context.seed,
            batch_size=batch_that_fits(original, samples, 16),
        )
        result = refit(original, network, samples, how)
        if not result.layers:
            raise PassError(f"no layer could be refitted: {_listed(result.skipped)}.")
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=_notes(result.layers, result.skipped))


def _notes(layers: tuple[str, ...], skipped: Mapping[str, str]) -> tuple[str, ...]:
    notes = [f"refitted {len(layers)} layers to the original's outputs"]
    if skipped:
        notes.append(f"skipped {len(skipped)} of {len(layers) + len(skipped)} layers: {_listed(skipped)}")
    return tuple(notes)


def _listed(skipped: Mapping[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(skipped.items())[:8]]
    return ", ".join([*shown, "…"] if len(skipped) > 8 else shown) or "it has none with weights"
