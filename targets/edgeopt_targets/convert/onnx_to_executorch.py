"""ONNX to ExecuTorch, by way of torch's exported programs, for the XNNPACK backend.

Not ExecuTorch's own reader of ONNX: there is none. Every ONNX file becomes a torch network here (`import_onnx`), in the
environment that has ExecuTorch (`engine_process.EXECUTORCH`), for its pins clash with those of tflite_runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeopt.child import report_progress, run_child
from edgeopt.environments import Environment, interpreter
from edgeopt.errors import PassError
from edgeopt.graph.engine_process import EXECUTORCH
from edgeopt.passes._base import EXACT, PassContext, PassReport
from edgeopt_targets.convert.fixed_sizes import fixed_signature
from edgeopt_targets.convert.forms import first_converted, torch_forms
from edgeopt_targets.convert.options import FIRST_USE_SECONDS, check_seconds, refuse_kept
from edgeopt_targets.convert.ports import record
from edgeopt_targets.convert.trial import demand_runs

_SECONDS = 540.0
_COSINES = {"float": EXACT, "int8": 0.5}


@dataclass(frozen=True)
class Options:
    """Options of `convert_executorch`.

    Attributes:
        precision: ``float``; ``int8``: weights and activations in 8 bits, inputs and outputs float.
        samples: Largest number of calibration samples.
        max_seconds: Time for making the converter's environment on first use, on top of a pass's deadline.
    """

    precision: Literal["float", "int8"] = "float"
    samples: int = 128
    max_seconds: float = FIRST_USE_SECONDS

    def __post_init__(self) -> None:
        check_seconds(self.max_seconds)
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")


class ConvertExecutorch:
    """Makes an ExecuTorch file, in float or in 8 bits.

    Worth a try on 64-bit ARM with PyTorch at hand, which its runtime needs; XNNPACK computes what LiteRT computes with,
    so the two are often near each other. The batch is fixed to one; recurrent networks take minutes to convert.
    """

    name: ClassVar[str] = "convert_executorch"
    format: ClassVar[str] = "pte"
    tools: ClassVar[Environment] = EXECUTORCH
    options_class: ClassVar[type[Options]] = Options
    min_cosine: float = _COSINES["int8"]
    needs_calibration: bool = True
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset()
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.min_cosine = _COSINES[options.precision]
        self.needs_calibration = options.precision != "float"

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the ExecuTorch file.

        Raises:
            PassError: No calibration samples for ``int8``, ExecuTorch does not take the network in any form, layers
                that stayed in float although they should not, an unknown node in `keep_float`, `keep_float` with
                ``float``, or free sizes without samples.
            ToolError: The converter's environment cannot be made.
        """
        if not self.needs_calibration:
            refuse_kept(context, "A network that stays in float")
        elif context.calibration is None:
            raise PassError("precision int8 needs calibration samples.", remedy="--calibration data.py:samples.")
        signature, notes = fixed_signature(source, context)
        python = interpreter(EXECUTORCH, deadline_seconds=self.options.max_seconds, on_progress=report_progress)
        arguments = {"destination": str(destination), "note": record(signature), **self._samples(context)}

        def convert(form: Path) -> Any:
            found = run_child(
                "edgeopt_targets.convert.executorch_step:convert",
                {"source": str(form), **arguments},
                deadline_seconds=_SECONDS,
                what="ExecuTorch's exporter",
                on_progress=report_progress,
                python=python,
            )
            demand_runs(source, destination, "ExecuTorch", signature)
            return found

        found, failures = first_converted("ExecuTorch", torch_forms(source, context), convert)
        return PassReport((*notes, *failures, *found["notes"]), tuple(found["kept_float"]))

    def _samples(self, context: PassContext) -> dict[str, Any]:
        samples = str(context.calibration) if self.needs_calibration else ""
        return {"samples": samples, "limit": self.options.samples, "keep_float": list(context.keep_float)}
