"""Optimise the graph offline with ONNX Runtime, so that the device need not do it at every start.

Source: ONNX Runtime, "Graph Optimizations" (basic: constant folding, redundant nodes, Conv and BatchNorm fusion;
extended: fused operators of the CPU provider). Level ``all`` is not offered: it writes the host's own memory layout
(NCHWc) into the file, which then does not load on another architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `optimise_graph`.

    Attributes:
        level: ``basic`` keeps standard operators; ``extended`` adds ONNX Runtime's own fused ones.
    """

    level: Literal["basic", "extended"] = "basic"


class OptimiseGraph(Pass):
    """ONNX Runtime's optimiser, its result saved as a file that travels."""

    name: ClassVar[str] = "optimise_graph"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = EXACT
    optional: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:  # noqa: ARG002
        """Write the optimised network.

        Raises:
            PassError: ONNX Runtime cannot load or save it.
        """
        import onnx
        import onnxruntime

        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = (
            levels.ORT_ENABLE_BASIC if self.options.level == "basic" else levels.ORT_ENABLE_EXTENDED
        )
        options.optimized_model_filepath = str(destination)
        before = len(onnx.load(source, load_external_data=False).graph.node)
        try:
            onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise PassError(f"ONNX Runtime cannot optimise it: {error}.") from None
        after = len(onnx.load(destination, load_external_data=False).graph.node)
        return PassReport(notes=(f"optimise_graph ({self.options.level}): {before} nodes became {after}",))
