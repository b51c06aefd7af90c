"""Smaller kernels: of each convolution only the strongest window of taps stays.

Source: Cai, Gan, Wang, Zhang, Han: Once-for-All: Train One Network and Specialize it for Efficient Deployment, 2020,
§3.3 (elastic kernel size): the centre of a large kernel serves as a small one, behind a transformation that is learned.
The window is chosen here by its weights; what a later `refit` solves for, or `distil` learns, is the transformation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import ANY, Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `shrink_kernels`.

    Attributes:
        size: Most taps that stay along each axis of a kernel, at least 1.
        layers: Names of convolutions; by default all that have a larger kernel.
    """

    size: int = 3
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}, must be at least 1")


class ShrinkKernels(Pass):
    """Crops the kernels of convolutions to their strongest 3×3 taps (or another size); all shapes stay.

    Wins on networks with 5×5 and 7×7 kernels, and always needs recovery: `distil` or `fine_tune`, or `refit` where
    samples are few, which gives back most but not all. There is nothing in it for networks of 3×3 kernels.
    """

    name: ClassVar[str] = "shrink_kernels"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = ANY
    operators: ClassVar[frozenset[str]] = frozenset({"Conv"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with smaller kernels.

        Raises:
            PassError: No convolution has a larger kernel that can be cropped (says why for each), or an unknown name in
                `layers` or `keep_float`.
        """
        import onnx

        from edgeopt.passes.graphs.kernels import Unshrinkable, known_shapes, larger_kernels, shrink
        from edgeopt.passes.graphs.layers import Network, skips
        from edgeopt.passes.graphs.questions import demand_nodes

        network = Network(onnx.load(source))
        demand_nodes(network.model, context.keep_float)
        demand_nodes(network.model, self.options.layers, "layers")
        skipped = larger_kernels(network, self.options.size, self.options.layers)
        shapes, total, changed = known_shapes(network.model), len(skipped), []
        for layer in network.layers:
            if skipped.get(layer.name) == "":
                try:
                    window = shrink(network, layer, self.options.size, shapes)
                except Unshrinkable as reason:
                    skipped[layer.name] = str(reason)
                else:
                    del skipped[layer.name]
                    changed.append(f"{layer.name} {_by(layer.kernel)} -> {window}")
        if not changed:
            found = "; ".join(skips(skipped, total)) or "none is larger"
            raise PassError(f"no kernel can be cropped to {self.options.size} taps: {found}.")
        network.save(destination)
        return PassReport(notes=(f"kernels: {', '.join(changed)}", *skips(skipped, total)))


def _by(kernel: tuple[int, ...]) -> str:
    return "x".join(map(str, kernel))
