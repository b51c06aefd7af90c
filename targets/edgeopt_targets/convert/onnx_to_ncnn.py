"""ONNX to ncnn, by pnnx, ncnn's own converter.

Its program needs no torch and takes both ONNX and TorchScript; what torch's newer exporter writes converts, yet often
does not load, hence the trial. There is no 8-bit form: the tables that ncnn's int8 needs come from tools that no wheel
has.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.child import report_progress, run_child
from edgeopt.core.tensor import Signature
from edgeopt.environments import Environment, interpreter
from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, PassContext, PassReport
from edgeopt_runner.engines.ncnn import META, PARAM, WEIGHTS
from edgeopt_targets.convert.fixed_sizes import fixed_signature
from edgeopt_targets.convert.forms import first_converted, onnx_forms
from edgeopt_targets.convert.options import FIRST_USE_SECONDS, check_seconds, refuse_kept
from edgeopt_targets.convert.ports import record
from edgeopt_targets.convert.trial import demand_runs

TOOLS = Environment(Path(__file__).with_name("ncnn.txt"), needed=("pnnx",))
_SECONDS = 300.0
_COSINES = {"float": EXACT, "half": 0.999}
_ELEMENTS = {"float32": "f32", "float16": "f16", "int64": "i64", "int32": "i32", "int8": "i8", "uint8": "u8"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Options:
    """Options of `convert_ncnn`.

    Attributes:
        precision: ``float``, or ``half`` for weights stored in 16 bits. What is computed in is a setting of the engine.
        max_seconds: Time for making the converter's environment on first use, on top of a pass's deadline.
    """

    precision: Literal["float", "half"] = "float"
    max_seconds: float = FIRST_USE_SECONDS

    def __post_init__(self) -> None:
        check_seconds(self.max_seconds)


class ConvertNcnn:
    """Makes an ncnn file, in float or with weights in 16 bits; one sample at a time.

    Worth a try on ARM, and on 32-bit boards, where it and tflite_runtime are all there is; on x86 it won on none of
    the networks that were tried.
    """

    name: ClassVar[str] = "convert_ncnn"
    format: ClassVar[str] = "ncnn"
    tools: ClassVar[Environment] = TOOLS
    options_class: ClassVar[type[Options]] = Options
    min_cosine: float = _COSINES["half"]
    needs_calibration: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset()
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.min_cosine = _COSINES[options.precision]

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write parameters, weights and signature as one zip file.

        Raises:
            PassError: pnnx or ncnn does not take the network in any form, its batch is fixed to several samples, free
                sizes are not told by samples, or `keep_float` is asked for.
            ToolError: The converter's environment cannot be made.
        """
        refuse_kept(context, "ncnn's converter")
        signature, notes = fixed_signature(source, context)
        _demand_single(signature)
        python = interpreter(TOOLS, deadline_seconds=self.options.max_seconds, on_progress=report_progress)

        def convert(form: Path) -> None:
            folder = context.work / f"pnnx-{form.stem}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            run_child(
                "edgeopt_targets.convert.ncnn_step:convert",
                {"source": str(form), "folder": str(folder), "shapes": _shapes(signature), "half": self._half},
                deadline_seconds=_SECONDS,
                what="pnnx",
                python=python,
            )
            _pack(folder, signature, destination)
            demand_runs(source, destination, "ncnn", signature)

        _, failures = first_converted("ncnn", onnx_forms(source, context), convert)
        return PassReport((*notes, *failures))

    @property
    def _half(self) -> bool:
        return self.options.precision == "half"


def _demand_single(signature: Signature) -> None:
    for spec in (*signature.inputs, *signature.outputs):
        if not spec.shape or spec.shape[0] != 1:
            raise PassError(
                f"ncnn has no dimension for the batch, but {spec} is not one sample.",
                remedy="Export the network with a dynamic batch, or a batch of 1.",
            )


def _shapes(signature: Signature) -> str:
    """As pnnx wants them: ``[1,3,224,224]f32,[1,16]i64``."""
    unknown = [spec for spec in signature.inputs if spec.dtype not in _ELEMENTS]
    if unknown:
        raise PassError(f"pnnx has no inputs of {unknown[0].dtype}, which {unknown[0].name} is.")
    return ",".join(f"[{','.join(map(str, spec.shape))}]{_ELEMENTS[spec.dtype]}" for spec in signature.inputs)


def _pack(folder: Path, signature: Signature, destination: Path) -> None:
    """One file for the engine; pnnx numbers inputs and outputs in their order."""
    tensors = {spec.name: f"in{index}" for index, spec in enumerate(signature.inputs)}
    tensors |= {spec.name: f"out{index}" for index, spec in enumerate(signature.outputs)}
    members = {
        PARAM: (folder / PARAM).read_bytes(),
        WEIGHTS: (folder / WEIGHTS).read_bytes(),
        META: record(signature, tensors).encode(),
    }
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
