"""Cross-layer equalisation: moves scale between neighbouring layers until their channels span like ranges.

Source: Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and Bias Correction,
2019, §4.1: for positively homogeneous f, W2 f(W1 x) = (W2 S) f(S⁻¹ W1 x) with S diagonal (eq. 6), and
s_i = sqrt(r1_i r2_i) / r2_i makes the ranges r of both layers alike in each channel (eq. 11). Pairs are swept until
nothing moves, which covers the triples around a depthwise convolution. High biases are absorbed as in §4.1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare

if TYPE_CHECKING:
    from edgeopt.passes.graphs.chains import Pair
    from edgeopt.passes.graphs.layers import Array, Network

_STILL = 1e-3
"""A sweep in which no factor leaves 1 by more than this is the last one."""

_DEAD = 1e-6
"""A channel whose weights are smaller than this share of the layer's largest is left alone."""


@dataclass(frozen=True)
class Options:
    """Options of `equalise`.

    Attributes:
        sweeps: Largest number of passes over all pairs.
        replace_clip: Make ReLU6 (Clip from 0) between two layers a ReLU, so that they can be equalised. Only right
            where the network never reaches the upper bound; the check of the outputs drops the result otherwise.
        absorb: Shift activations that are never near 0 into the next layer's bias (§4.1.3); needs the statistics of
            batch normalisation in the file, and changes outputs where an activation falls 3 standard deviations
            below its mean.
    """

    sweeps: int = 40
    replace_clip: bool = False
    absorb: bool = False

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise ValueError(f"sweeps is {self.sweeps}, must be at least 1")


class Equalise(Pass):
    """Cross-layer equalisation of Conv and Gemm pairs, without data; the float network computes the same.

    Helps int8 with one scale a tensor, above all on depthwise networks whose channels differ in range; hardly helps
    where weights have a scale for each channel, and does nothing through SiLU, GELU, residual branches or ReLU6 kept.
    """

    name: ClassVar[str] = "equalise"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = EXACT
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "Gemm", "MatMul"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with batch norms folded and channels equalised.

        Raises:
            PassError: No two layers are neighbours in the sense of eq. 6.
        """
        from edgeopt.passes.graphs.chains import pairs
        from edgeopt.passes.graphs.layers import Network

        network = Network.load(prepare(source, context))
        notes = self._without_clips(network) if self.options.replace_clip else ()
        found = pairs(network)
        if not found:
            raise PassError(
                "no two layers follow each other with nothing but ReLU or pooling between them, so no scale can move.",
                remedy="With ReLU6 between them: option replace_clip.",
            )
        factors = _equalised(network, found, self.options.sweeps)
        notes += (f"equalised {len(found)} pairs of layers",)
        if self.options.absorb:
            notes += _absorbed(network, found, factors, _statistics(source))
        network.save(destination)
        return PassReport(notes=notes)

    def _without_clips(self, network: Network) -> tuple[str, ...]:
        """Make ReLU of the Clip nodes that stand between the layers of a pair."""
        from edgeopt.passes.graphs.chains import pairs

        clips = frozenset(node.name for node in network.model.graph.node if _from_zero(node, network))
        replaced = {name for pair in pairs(network, clips) for name in pair.between if name in clips}
        for name in replaced:
            network.become(network.node(name), "Relu")
        return (f"{len(replaced)} Clip became Relu",) if replaced else ()


def _from_zero(node: Any, network: Network) -> bool:
    """Whether a node is a Clip with the constant 0 as its lower bound."""
    if node.op_type != "Clip" or len(node.input) < 2:
        return False
    low = network.constant(node.input[1])
    return low is not None and bool((low == 0).all())


def _equalised(network: Network, found: list[Pair], sweeps: int) -> dict[str, Array]:
    """Move scale between the layers of all pairs; by name of the first layer, what its channels were divided by."""
    import numpy as np

    layers = {layer.name: layer for pair in found for layer in (pair.first, pair.second)}
    weights = {name: network.weight(layer).astype(np.float64) for name, layer in layers.items()}
    total = {pair.first.name: np.ones(pair.first.outputs) for pair in found}
    for _ in range(sweeps):
        steps = [_moved(weights, total, pair) for pair in found]
        if max(steps) < _STILL:
            break
    for name, layer in layers.items():
        network.set_weight(layer, weights[name])
    for pair in found:
        network.set_bias(pair.first, network.bias(pair.first) / total[pair.first.name])
    return total


def _moved(weights: dict[str, Array], total: dict[str, Array], pair: Pair) -> float:
    """Equalise one pair (eq. 11); how far the factors were from 1, in octaves of e."""
    import numpy as np

    from edgeopt.passes.graphs.chains import input_columns, scaled_inputs, scaled_outputs

    first, second = weights[pair.first.name], weights[pair.second.name]
    made = np.abs(first.reshape(pair.first.outputs, -1)).max(axis=1)
    read = np.abs(input_columns(pair.second, second)).max(axis=1).reshape(-1, pair.repeat).max(axis=1)
    alive = (made > _DEAD * made.max()) & (read > _DEAD * read.max())
    factor = np.where(alive, np.sqrt(made / np.where(alive, read, 1.0)), 1.0)
    weights[pair.first.name] = scaled_outputs(first, 1 / factor)
    weights[pair.second.name] = scaled_inputs(pair.second, second, np.repeat(factor, pair.repeat))
    total[pair.first.name] *= factor
    return float(np.abs(np.log(factor)).max())


def _statistics(source: Path) -> dict[str, tuple[Array, Array]]:
    """Mean and standard deviation of each channel behind the batch norms of a file, by the norm's output."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(source).graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.output[0]: (
            numpy_helper.to_array(known[node.input[2]]),
            np.abs(numpy_helper.to_array(known[node.input[1]])),
        )
        for node in graph.node
        if node.op_type == "BatchNormalization" and {node.input[1], node.input[2]} <= known.keys()
    }


def _absorbed(
    network: Network, found: list[Pair], factors: dict[str, Array], statistics: dict[str, tuple[Array, Array]]
) -> tuple[str, ...]:
    """Move c = max(0, mean - 3 deviations) from the first layer's bias into the second's (eq. 13 to 15)."""
    import numpy as np

    channels = 0
    for pair in found:
        known = statistics.get(network.output(pair.first))
        if known is None or not _absorbs(network, pair):
            continue
        shift = np.maximum(0.0, known[0] - 3.0 * known[1]) / factors[pair.first.name]
        columns = network.weight(pair.second).reshape(pair.second.outputs, pair.second.inputs, -1).sum(axis=2)
        network.set_bias(pair.first, network.bias(pair.first) - shift)
        network.set_bias(pair.second, network.bias(pair.second) + columns @ np.repeat(shift, pair.repeat))
        channels += int((shift > 0).sum())
    return (f"absorbed the biases of {channels} channels",)


def _absorbs(network: Network, pair: Pair) -> bool:
    """Whether f(x - c) = f(x) - c holds between them and each place of the second layer reads all of c: no padding."""
    from edgeopt.passes.graphs.layers import attribute

    node = network.node(pair.second.name)
    padded = any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    between = [network.node(name).op_type for name in pair.between]
    return between == ["Relu"] and not padded and pair.second.groups == 1
