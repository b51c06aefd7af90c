"""ONNX to MNN, by MNN's own converter.

Jiang, Wang, Chen et al.: MNN: A Universal and Efficient Inference Engine, 2020. Its command-line tools are not used:
they install a client at run time and report every conversion; the function beneath them does the same work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.child import report_progress, run_child
from edgeopt.environments import Environment, interpreter
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.passes._base import EXACT, PassContext, PassReport
from edgeopt_targets.convert.forms import first_converted, onnx_forms
from edgeopt_targets.convert.options import FIRST_USE_SECONDS, check_seconds, refuse_kept
from edgeopt_targets.convert.ports import record
from edgeopt_targets.convert.trial import demand_runs

TOOLS = Environment(Path(__file__).with_name("mnn.txt"), needed=("MNN",))
_SECONDS = 300.0
_COSINES = {"float": EXACT, "half": 0.999, "weights8": 0.9, "weights4": 0.5}


@dataclass(frozen=True)
class Options:
    """Options of `convert_mnn`.

    Attributes:
        precision: ``float``; ``half`` stores weights in 16 bits; ``weights8`` and ``weights4`` store those of
            convolutions and products in so many bits with a scale for each output channel. All compute in float.
        max_seconds: Time for making the converter's environment on first use, on top of a pass's deadline.
    """

    precision: Literal["float", "half", "weights8", "weights4"] = "float"
    max_seconds: float = FIRST_USE_SECONDS

    def __post_init__(self) -> None:
        check_seconds(self.max_seconds)


class ConvertMnn:
    """Makes an MNN file, in float or with 16-, 8- or 4-bit weights.

    Worth a try on ARM boards, where MNN has kernels of its own for each core; on x86 it won on none of the networks
    that were tried, and its smaller weights save room and bandwidth, not arithmetic.
    """

    name: ClassVar[str] = "convert_mnn"
    format: ClassVar[str] = "mnn"
    tools: ClassVar[Environment] = TOOLS
    options_class: ClassVar[type[Options]] = Options
    min_cosine: float = _COSINES["weights4"]
    needs_calibration: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset()
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.min_cosine = _COSINES[options.precision]

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the MNN file.

        Raises:
            PassError: The converter does not take the network in any form, or `keep_float` is asked for.
            ToolError: The converter's environment cannot be made.
        """
        refuse_kept(context, "MNN's converter")
        python = interpreter(TOOLS, deadline_seconds=self.options.max_seconds, on_progress=report_progress)
        signature = inspect_onnx(source).signature
        note = record(signature)

        def convert(form: Path) -> None:
            run_child(
                "edgeopt_targets.convert.mnn_step:convert",
                {
                    "source": str(form),
                    "destination": str(destination),
                    "precision": self.options.precision,
                    "note": note,
                },
                deadline_seconds=_SECONDS,
                what="MNN's converter",
                python=python,
            )
            demand_runs(source, destination, "MNN", signature)

        _, notes = first_converted("MNN", onnx_forms(source, context), convert)
        return PassReport(notes)
