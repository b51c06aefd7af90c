"""Trains a compressed network to say what the original says; labels help, but are not needed.

Sources: see `edgeopt.training.distillation`. With ``teacher="before"`` it is self-distillation: Furlanello, Lipton,
Tschannen, Itti, Anandkumar: Born-Again Neural Networks, 2018 (`distil_student` with width and depth 1 begins anew).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.recovery.distil_options import DistilOptions


@dataclass(frozen=True)
class Options(DistilOptions):
    """Options of `distil`: those of every distillation, and two of its own.

    Attributes:
        teacher: The ``original``, or the network as it comes from the pass ``before`` (self-distillation, which needs
            labels or features to say anything new).
        keep_zeros: Leave weights that are exactly zero so: of pruned connections.
    """

    teacher: Literal["original", "before"] = "original"
    keep_zeros: bool = True


class Distil(Pass):
    """Trains the network as it is now on the original's outputs, with labels where there are some.

    Brings back most of what pruning, factorising or coarse weights cost, even on unlabelled samples; does nothing for
    a network that nothing has changed yet, and takes minutes on a CPU.
    """

    name: ClassVar[str] = "distil"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0  # outputs may shift and still say the same: judged by accuracy
    needs_calibration: ClassVar[bool] = False  # training samples do as well
    trains: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the trained network.

        Raises:
            PassError: No samples, other outputs than the teacher's, layers that are not there, or a failed training.
            DataError: Samples or labels that do not fit.
            ModelError: Network or teacher cannot be taken into torch.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes._training import training_of, zeros_kept
        from edgeopt.passes.recovery.distilling import distil_into

        network = import_onnx(source)
        teacher = import_onnx((context.original or source) if self.options.teacher == "original" else source)
        samples = training_of(context, network.input_names, labelled=False)
        after_step = zeros_kept(network) if self.options.keep_zeros else None
        notes = distil_into(network, teacher, samples, self.options, context, after_step=after_step)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=notes)
