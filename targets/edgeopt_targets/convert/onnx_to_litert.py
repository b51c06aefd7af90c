"""ONNX to LiteRT (TFLite), by way of torch: litert-torch for the graph, ai-edge-quantizer for the numbers.

Not onnx2tf: it needs TensorFlow with pins of its own, downloads a picture to calibrate with, takes ten times as long,
and takes only what torch's newer exporter wrote. Every ONNX file becomes a torch network here (`import_onnx`), so
litert-torch takes them all; both tools run in an environment of their own (`litert.txt`).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeopt.child import report_progress, run_child
from edgeopt.core.tensor import Signature
from edgeopt.environments import Environment, interpreter
from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, PassContext, PassReport
from edgeopt.passes._files import file_digest
from edgeopt_targets.convert.fixed_sizes import fixed_signature
from edgeopt_targets.convert.forms import first_converted, torch_forms
from edgeopt_targets.convert.options import FIRST_USE_SECONDS, check_seconds
from edgeopt_targets.convert.ports import record

TOOLS = Environment(
    Path(__file__).with_name("litert.txt"),
    needed=("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "onnx"),
    first="torch",
    size_bytes=3 << 30,
)
_SECONDS = 540.0
_COSINES = {"float": EXACT, "half": 0.999, "dynamic": 0.9, "int8": 0.5, "int8_io": 0.5, "weights4": 0.5}
_CALIBRATED = ("int8", "int8_io")


@dataclass(frozen=True)
class Options:
    """Options of `convert_litert`.

    Attributes:
        precision: ``float``; ``half``: weights in 16 bits; ``dynamic``: weights in 8 bits, activations rounded while it
            runs, no samples needed; ``int8``: all in 8 bits, inputs and outputs float; ``int8_io``: these too;
            ``weights4``: as dynamic, with 4 bits for convolutions (not depthwise) and products; LiteRT only, the older
            tflite_runtime crashes on it.
        layout: Of inputs and outputs with four dimensions: ``nchw`` as in the original; ``nhwc`` with channels last,
            as a camera gives pictures; ``auto``: as in the original. Users feed the same arrays either way: the
            engine moves them, which an application that has channels last need not.
        samples: Largest number of calibration samples.
        max_seconds: Time for making the converter's environment on first use, on top of a pass's deadline.
    """

    precision: Literal["float", "half", "dynamic", "int8", "int8_io", "weights4"] = "float"
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    samples: int = 128
    max_seconds: float = FIRST_USE_SECONDS

    def __post_init__(self) -> None:
        check_seconds(self.max_seconds)
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")


class ConvertLitert:
    """Makes a TFLite file for LiteRT and tflite_runtime, in float or quantised.

    Often the fastest on ARM, and on x86 for depthwise networks and small ones; LSTM and GRU are unrolled, which makes
    long sequences slow and the file large. The batch is fixed to one.
    """

    name: ClassVar[str] = "convert_litert"
    format: ClassVar[str] = "tflite"
    tools: ClassVar[Environment] = TOOLS
    options_class: ClassVar[type[Options]] = Options
    min_cosine: float = 0.5
    needs_calibration: bool = True
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset()
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.min_cosine = _COSINES[options.precision]
        self.needs_calibration = options.precision in _CALIBRATED

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the TFLite file.

        Raises:
            PassError: No calibration samples for ``int8``, an operator that the converter lacks, layers that stayed in
                float although they should not, an unknown node in `keep_float`, or free sizes without samples.
            ToolError: The converter's environment cannot be made.
        """
        if self.needs_calibration and context.calibration is None:
            raise PassError(
                f"precision {self.options.precision} needs calibration samples.",
                remedy="Give typical inputs: --calibration data.py:samples.",
            )
        signature, notes = fixed_signature(source, context)
        python = interpreter(TOOLS, deadline_seconds=self.options.max_seconds, on_progress=report_progress)
        converted, how = _Float(source, signature, self.options.layout, context, python).made()
        if self.options.precision == "float":
            destination.write_bytes(converted.read_bytes())
            return PassReport((*notes, *how))
        found = _in_child(python, "litert_quantising:quantise", self._arguments(converted, destination, context))
        return PassReport((*notes, *how, *found["notes"]), tuple(found["kept_float"]))

    def _arguments(self, converted: Path, destination: Path, context: PassContext) -> dict[str, Any]:
        return {
            "source": str(converted),
            "destination": str(destination),
            "precision": self.options.precision,
            "samples": str(context.calibration or ""),
            "limit": self.options.samples,
            "keep_float": list(context.keep_float),
        }


@dataclass(frozen=True)
class _Float:
    """The network as a float TFLite file, which all precisions begin with and share."""

    source: Path
    signature: Signature
    layout: str
    context: PassContext
    python: Path

    def made(self) -> tuple[Path, tuple[str, ...]]:
        """The file and notes on how it was made; what an earlier recipe made, where it is there."""
        path = self._path()
        notes = path.with_suffix(".notes")
        if not (path.exists() and notes.exists()):
            partial = path.with_name(f"{path.stem}-{os.getpid()}.part")
            forms = torch_forms(self.source, self.context)
            _, said = first_converted("LiteRT's converter", forms, lambda form: self._convert(form, partial))
            partial.replace(path)
            partial.write_text(json.dumps(said))
            partial.replace(notes)
        return path, tuple(json.loads(notes.read_text()))

    def _path(self) -> Path:
        shapes = [list(spec.shape) for spec in self.signature.inputs]
        parts = [file_digest(self.source), self.layout, shapes, file_digest(TOOLS.lock)]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return (self.context.cache or self.context.work) / f"litert-{digest[:32]}.tflite"

    def _convert(self, form: Path, destination: Path) -> None:
        note = record(self.signature)
        arguments = {"source": str(form), "destination": str(destination), "note": note, "layout": self.layout}
        _in_child(self.python, "litert_step:convert", arguments)


def _in_child(python: Path, function: str, arguments: dict[str, Any]) -> Any:
    return run_child(
        f"edgeopt_targets.convert.{function}",
        arguments,
        deadline_seconds=_SECONDS,
        what="LiteRT's converter",
        on_progress=report_progress,
        python=python,
    )
