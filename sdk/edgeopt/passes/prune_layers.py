"""Pruning in depth: residual blocks whose removal changes the output least are left out.

Sources: Veit, Wilber, Belongie: Residual Networks Behave Like Ensembles of Relatively Shallow Networks, 2016, §4.1 (a
residual block can be left out alone); Men et al.: ShortGPT: Layers in Large Language Models are More Redundant Than You
Expect, 2024, §3 (judged by how similar what comes out stays). Judged here by the network's own output.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `prune_layers`.

    Attributes:
        count: Blocks to leave out, at least 1.
        ratio: Share of the blocks to leave out, above 0 and below 1; 0 goes by `count`.
        measure: How the change is told: ``cosine`` of the outputs, or ``kl``, the divergence of their soft-max.
        ignore: Names of layers whose blocks stay.
    """

    count: int = 1
    ratio: float = 0.0
    measure: Literal["cosine", "kl"] = "cosine"
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}, must be at least 1")
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}, must be below 1 and not negative")


class PruneLayers(Pass):
    """Leaves out the residual blocks that matter least.
    Cuts latency nearly in step with the work removed, as fewer layers run, where narrower ones may not; it is only for
    networks with shortcuts that keep the shape (ResNets, transformers), and training must win accuracy back.
    """

    name: ClassVar[str] = "prune_layers"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Add"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the shallower network.

        Raises:
            PassError: No calibration inputs, no residual block that keeps the shape, fewer of them than are to go, or
                an unknown layer in `ignore`.
            ModelError: The network cannot be imported; names the operator.
            DataError: Samples that do not fit.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.pruning.blocks import leave_out

        network = import_onnx(source)
        notes = leave_out(network, self.options, context)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=notes)
