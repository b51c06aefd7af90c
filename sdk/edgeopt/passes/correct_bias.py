"""Bias correction: rounds weights to the grid of the quantiser and takes the error's mean out of the biases.

Source: Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and Bias Correction,
2019, §4.2: E[y] = E[ỹ] - E[εx] (eq. 17), in the empirical variant of its appendix D: each channel's mean before and
after is measured on calibration samples, layer by layer, those before already rounded and corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare

if TYPE_CHECKING:
    from edgeopt.passes.graphs.layers import Array, Layer, Network


@dataclass(frozen=True)
class Options:
    """Options of `correct_bias`.

    Attributes:
        bits: Bits a weight of the pass that quantises later; 8 are 7 where that halves the range (x86 without VNNI).
        per_channel: Whether that pass has one scale for each output channel; the same as its own option.
        samples: Largest number of calibration samples.
        max_seconds: No layer is corrected after this; those left are for the quantiser to round.
    """

    bits: Literal[2, 4, 8] = 8
    per_channel: bool = True
    samples: int = 64
    max_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, must be above 0")


class CorrectBias(Pass):
    """Rounds weights and corrects the biases for what that shifts on average; goes before the pass that quantises.

    Helps where rounding is coarse (4 bits, one scale a tensor) or few weights make a channel (depthwise); at 8 bits
    with a scale for each channel there is next to nothing to correct.
    """

    name: ClassVar[str] = "correct_bias"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.5
    needs_calibration: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "Gemm", "MatMul"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with float weights on the grid and corrected biases.

        Raises:
            PassError: No calibration samples, activations that are not finite, no layer to round, or an unknown node
                in `keep_float`.
        """
        from edgeopt.passes.graphs.layers import Network
        from edgeopt.passes.graphs.watch import demand_samples
        from edgeopt.passes.quantising.rounding import Lattice, Round

        samples = demand_samples(context.calibration, "bias correction")
        network = Network.load(prepare(source, context))
        lattice = Lattice.of(self.options.bits, self.options.per_channel, context)
        layers = Round(network, context, self.options.max_seconds)
        wanted = _means(network, network.layers, samples, self.options.samples)
        corrected = 0
        for layer in layers:
            network.set_weight(layer, lattice.nearest(network.weight(layer)))
            if not network.has_bias(layer):
                layers.skipped[layer.name] = "rounded, but it has no bias"
                continue
            found = _means(network, (layer,), samples, self.options.samples)
            network.set_bias(layer, network.bias(layer) + wanted[layer.name] - found[layer.name])
            corrected += 1
        network.save(destination)
        return PassReport(
            (f"corrected the biases of {corrected} layers at {lattice}", *layers.notes()), context.keep_float
        )


def _means(network: Network, layers: tuple[Layer, ...], samples: Path, limit: int) -> dict[str, Array]:
    """Mean output of each channel over the samples, by name of the layer, float64 [O]."""
    import numpy as np

    from edgeopt.passes.graphs.watch import channel_mean, watch

    outputs = {layer.name: network.output(layer) for layer in layers}
    means: dict[str, list[Array]] = {name: [] for name in outputs}
    for values in watch(network.model, list(outputs.values()), samples, limit):
        for layer in layers:
            means[layer.name].append(channel_mean(layer, values[outputs[layer.name]]))
    return {name: np.mean(every, axis=0) for name, every in means.items()}
