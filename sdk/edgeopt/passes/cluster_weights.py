"""Weight sharing: the weights of a layer take few values, and the file holds these and each weight's place among them.

Han, Mao, Dally: Deep Compression, 2016, §3; see `quantising.clusters`. Places are packed by `quantising.packing`: 16
clusters take 4 bits a weight. No Huffman coding: the archive that an artifact travels in compresses anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.questions import demand_nodes, save_sorted

if TYPE_CHECKING:
    from edgeopt.passes.graphs.weights import Weight


@dataclass(frozen=True)
class Options:
    """Options of `cluster_weights`.

    Attributes:
        clusters: Different values that weights take, 2 to 256; 16, 6, 4, 3 and 2 fill bytes best.
        scope: One list of values for each layer, or one for all.
    """

    clusters: int = 16
    scope: Literal["layer", "global"] = "layer"

    def __post_init__(self) -> None:
        if not 2 <= self.clusters <= 256:
            raise ValueError(f"clusters is {self.clusters}, must be between 2 and 256")


class ClusterWeights(Pass):
    """Weights of a layer share few values (k-means); the file holds a list of them and packed places in it.

    Saves size only, 16 clusters about 8 times and about as exactly as 4 bits without training; never faster, as weights
    are unpacked to float when the file is loaded. Goes last: other passes would unpack them.
    """

    name: ClassVar[str] = "cluster_weights"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.0
    yields: ClassVar[frozenset[str]] = frozenset({"Gather"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with shared weights; zeros stay zeros.

        Raises:
            PassError: No weights that would get smaller, or an unknown node in `keep_float`.
        """
        import onnx

        from edgeopt.passes.graphs.weights import constant_weights
        from edgeopt.passes.quantising.clusters import assigned, centroids
        from edgeopt.passes.quantising.packing import Packer

        model = onnx.load(prepare(source, context))
        demand_nodes(model, context.keep_float)
        before, packer = model.ByteSize(), Packer(model)
        values = _values(model, constant_weights(model, context.keep_float))
        shared = self._shared(list(values.values()))
        left = []
        for weight, array in values.items():
            centres = centroids(array, self.options.clusters) if shared is None else shared
            if not packer.levels(weight.name, assigned(array, centres), centres):
                left.append(weight.node)
        if len(left) == len(values):
            raise PassError("no weights would get smaller.", remedy="The network is tiny or compressed: leave it out.")
        save_sorted(model, destination)
        return PassReport(self._notes(len(values), left, before, model.ByteSize()), context.keep_float)

    def _shared(self, arrays: list[Any]) -> Any | None:
        """The list for all layers, if there is to be one."""
        import numpy as np

        from edgeopt.passes.quantising.clusters import centroids

        if self.options.scope == "layer" or not arrays:
            return None
        return centroids(np.concatenate([array.ravel() for array in arrays]), self.options.clusters)

    def _notes(self, layers: int, left: list[str], before: int, after: int) -> tuple[str, ...]:
        first = (
            f"weights of {layers - len(left)} layers share {self.options.clusters} values: "
            f"{before} bytes became {after}; that saves size only"
        )
        if not left:
            return (first,)
        return first, f"skipped {len(left)} of {layers} layers: {', '.join(left)} (would not get smaller)"


def _values(model: Any, weights: tuple[Weight, ...]) -> dict[Weight, Any]:
    """Arrays of the weights that have two different values at least."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays = {weight: numpy_helper.to_array(tensors[weight.name]) for weight in weights}
    return {weight: array for weight, array in arrays.items() if array.size and array.min() < array.max()}
