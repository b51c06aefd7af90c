"""Pruning of attention heads: the least important ones are removed for real, with their share of all four projections.

Source: Michel, Levy, Neubig: Are Sixteen Heads Really Better than One?, 2019, §4.1 (importance by the gradient of a
gate on each head, eq. 2) and §4 (heads of all layers in one order).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `prune_heads`.

    Attributes:
        ratio: Share of the heads to remove, above 0 and below 1; every layer keeps one at least.
        importance: ``taylor`` (gradient of a gate on the head), ``weight`` (norm of the product of its output and value
            weights), or ``activation`` (norm of what it adds on calibration).
        ranking: ``global`` compares heads of all layers, ``layer`` takes the same share from each.
        ignore: Names of soft-max nodes whose attention keeps its heads.
    """

    ratio: float = 0.25
    importance: Literal["taylor", "weight", "activation"] = "taylor"
    ranking: Literal["global", "layer"] = "global"
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}, must be above 0 and below 1")


class PruneHeads(Pass):
    """Removes the least important attention heads.
    Shrinks the four projections and the attention itself, which pays off for long sequences and many heads; networks
    with few heads a layer lose accuracy fast, and where the MLP takes the time prune_channels gains more.
    """

    name: ClassVar[str] = "prune_heads"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Softmax"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with fewer heads.

        Raises:
            PassError: No calibration inputs, no attention that is understood, a share that rounds to no head, or an
                unknown name in `ignore`.
            ModelError: The network cannot be imported; names the operator.
            DataError: Samples that do not fit.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.pruning.head_choice import prune_heads

        network, notes = prune_heads(import_onnx(source), self.options, context)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=notes)
