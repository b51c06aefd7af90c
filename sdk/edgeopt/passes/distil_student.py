"""Trains a smaller network, the student, on what the original says.

Source: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015; see `edgeopt.training.distillation`
for the other losses. A student of full width and depth that begins anew is born again: Furlanello, Lipton, Tschannen,
Itti, Anandkumar: Born-Again Neural Networks, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.recovery.distil_options import DistilOptions

if TYPE_CHECKING:
    from torch import nn

    from edgeopt.training.samples import Samples


@dataclass(frozen=True)
class Options(DistilOptions):
    """Options of `distil_student`: those of every distillation, and what the student is.

    Attributes:
        student: ``file.py:function``, or with arguments ``file.py:function(width=16)``, that returns the student, a
            torch network called with one tensor an input, in the original's order. It gets the original's shapes where
            it asks for ``inputs`` and ``outputs``. ``edgeopt.training.families`` has some; empty derives one from the
            network.
        width: Share of the channels that a derived student keeps in each layer, above 0, at most 1.
        depth: Share of the residual blocks that it keeps in each stage, above 0, at most 1.
        round_to: Its widths are multiples, where layers are wide enough.
        inherit: It begins with the weights that it keeps; else anew, which needs many more epochs.
        epochs: Passes over the samples.
    """

    student: str = ""
    width: float = 0.5
    depth: float = 1.0
    round_to: int = 1
    inherit: bool = True
    epochs: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "depth"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be above 0 and at most 1")
        if self.round_to < 1:
            raise ValueError(f"round_to is {self.round_to}, must be at least 1")


class DistilStudent(Pass):
    """Replaces the network by a smaller student, yours or the same made narrower and shallower, trained on its outputs.

    Wins where the network is much larger than the task, and with labels or many unlabelled samples; on few samples
    `prune_channels` and `refit` keep more, and a training from the start takes long on a CPU.
    """

    name: ClassVar[str] = "distil_student"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0  # another network: judged by accuracy
    needs_calibration: ClassVar[bool] = False  # training samples do as well
    trains: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the trained student.

        Raises:
            PassError: No samples, nothing that a derived student could be smaller by, other outputs than the
                teacher's, or a failed training.
            DataError: Samples or labels that do not fit.
            ModelError: The network cannot be taken into torch, or the user's function or student fails.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes._training import training_of
        from edgeopt.passes.recovery.distilling import distil_into

        teacher = import_onnx(context.original or source)
        samples = training_of(context, teacher.input_names, labelled=False)
        student, notes = self._student(source, teacher, samples, context)
        notes += distil_into(student, teacher, samples, self.options, context)
        export_onnx(student, like=source, destination=destination)
        return PassReport(notes=notes)

    def _student(
        self, source: Path, teacher: nn.Module, samples: Samples, context: PassContext
    ) -> tuple[nn.Module, tuple[str, ...]]:
        """The untrained student, and what there is to say about it."""
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.recovery.students import begin_anew, derived, users_student

        options, network = self.options, import_onnx(source)
        inputs = samples.batch([0])[0]
        if options.student:
            return users_student(options.student, teacher, inputs, context.seed), (f"the student is {options.student}",)
        notes = derived(network, inputs, options, context)
        if not options.inherit:
            begin_anew(network, context.seed)
        return network, notes
