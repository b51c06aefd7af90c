"""Simplify the graph: fold constants, fuse, drop dead nodes and duplicates.

Source: OnnxSlim (Inference Runtime, 2023-), which runs ONNX shape inference, constant folding, pattern fusion and
common-subexpression elimination to a fixed point. onnxsim does the same in C++ and was seen to segfault. Before it,
initial states of zeros are taken away (`zero_states`), so that what made them is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, Pass, PassContext, PassReport
from edgeopt.passes.graphs.zero_states import drop_zero_states


@dataclass(frozen=True)
class Options:
    """Options of `simplify`.

    Attributes:
        fold_limit_bytes: Constants larger than this are not folded, so that the file does not grow.
    """

    fold_limit_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if self.fold_limit_bytes < 0:
            raise ValueError("fold_limit_bytes must not be negative")


class Simplify(Pass):
    """OnnxSlim; `make_variant` checks parity after it and goes on with the input where it differs."""

    name: ClassVar[str] = "simplify"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = EXACT
    optional: ClassVar[bool] = True

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:  # noqa: ARG002
        """Write the simplified network.

        Raises:
            PassError: OnnxSlim failed on this network.
        """
        import onnx
        import onnxslim

        model = onnx.load(source)
        before = len(model.graph.node)
        drop_zero_states(model)
        try:
            slim = onnxslim.slim(model, size_threshold=self.options.fold_limit_bytes)
        except Exception as error:
            raise PassError(f"OnnxSlim failed: {type(error).__name__}: {error}.") from None
        if slim is None or not slim.graph.node:
            raise PassError("OnnxSlim returned no graph.")
        onnx.save(slim, destination)
        return PassReport(notes=(f"simplify: {before} nodes became {len(slim.graph.node)}",))
