"""Quantisation-aware training: weights of 8, 4, 2 or 1 bits that were trained as such, in a float file.

Sources in `quantising.fake_quantisation`. Batch norms are folded into the convolutions before the training, as every
runtime folds them: the grid has to be that of the folded weights. Then scale is moved between neighbouring layers, as
gradients cannot do it: a channel whose range is a hundredth of its tensor's has one code, and no gradient that says
so; training alone leaves such networks points below the original. The result's weights lie exactly on the grid that
`quantise_static` (8 bits; 2 and 1 bits too, whose codes are codes of 8 bits) or `pack_weights` (4, 2, 1) finds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport, saturates
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.questions import demand_nodes

if TYPE_CHECKING:
    from torch import nn

    from edgeopt.passes.quantising.fake_quantisation import Rounding
    from edgeopt.passes.quantising.torch_weights import LayerWeight
    from edgeopt.training.samples import Samples

_OBSERVED_BATCHES = 8
_END_SHARE = 0.25


@dataclass(frozen=True)
class Options:
    """Options of `train_quantised`.

    Attributes:
        bits: Of weights. 2 bits are the values -1, 0 and 1, 1 bit -1 and 1, times the channel's scale.
        bits_at_ends: Of the first and the last layer, where few weights do much; never fewer than `bits`, and not where
            such a layer has a quarter of all weights.
        activation_bits: 8: what layers read and give is rounded as `quantise_static` will round it; 0: it stays real.
        per_channel: One scale for each output channel instead of one for all; as in the pass that follows.
        equalise: Begin with `equalise` where that is exact and something has one scale for all channels: activations,
            or weights without `per_channel`.
        epochs: Passes over the training samples.
        batch_size: Samples of a step.
        learning_rate: At its highest.
        optimiser: How weights follow gradients.
        schedule: How the learning rate falls.
        labels: Share of the labels' loss, 0 to 1, where there are some; the original's outputs have the rest. They say
            more of each sample, which keeps a short training from changing more than rounding did.
        max_seconds: The training ends after this time with what it has.
    """

    bits: Literal[8, 4, 2, 1] = 8
    bits_at_ends: Literal[8, 4, 2, 1] = 8
    activation_bits: Literal[8, 0] = 8
    per_channel: bool = True
    equalise: bool = True
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimiser: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adamw"
    schedule: Literal["fixed", "step", "linear", "exponential", "cosine"] = "cosine"
    labels: float = 0.1
    max_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}, must be at least 1")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, must be at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be above 0")
        if not 0 <= self.labels <= 1:
            raise ValueError(f"labels is {self.labels}, must be from 0 to 1")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, must be above 0")


class TrainQuantised(Pass):
    """Trains the network with rounded weights and activations after the original's outputs, and on labels if there are.

    Helps where rounding alone loses accuracy (8 bits: depthwise convolutions, small networks; 4 bits and fewer: nearly
    always); brings nothing by itself: the file is float until `quantise_static` (8 bits) or `pack_weights` (4, 2, 1).
    """

    name: ClassVar[str] = "train_quantised"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.0
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network, batch norms folded, with trained weights on the grid.

        Raises:
            PassError: No samples, no layer with weights, an unknown node in `keep_float`, or a training that failed.
            ModelError: An operator that cannot be trained here.
        """
        import onnx

        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes._training import train_pass, training_of, zeros_kept
        from edgeopt.passes.quantising.fake_quantisation import Quantised
        from edgeopt.passes.quantising.imitation import after_original
        from edgeopt.passes.quantising.torch_weights import demand_weights, layer_weights, paths_of

        prepared = self._balanced(prepare(source, context), context)
        demand_nodes(onnx.load(prepared, load_external_data=False), context.keep_float)
        network = import_onnx(prepared)
        samples = training_of(context, network.input_names, labelled=False)
        kept = paths_of(network, context.keep_float)
        weights = [weight for weight in layer_weights(network) if weight.layer not in kept]
        demand_weights(weights)
        labels = self.options.labels if samples.labelled else 0.0
        loss = after_original(network, samples, context, labels=labels) if labels < 1 else None
        roundings = self._roundings(network, weights, context)
        model = Quantised(network, roundings, activations=self.options.activation_bits == 8)
        model.observe(_batches(samples, self.options.batch_size))
        zeros = zeros_kept(model) if self.options.bits > 1 else None  # binary weights have no zero
        notes = train_pass(model, samples, self.options, context, loss=loss, after_step=zeros)
        export_onnx(model.bake(), like=prepared, destination=destination)
        return PassReport((*notes, self._note(roundings, labelled=samples.labelled)), context.keep_float)

    def _balanced(self, prepared: Path, context: PassContext) -> Path:
        """The same network with channels of like ranges, where it has layers between which scale can move."""
        from edgeopt.passes.equalise import Equalise
        from edgeopt.passes.equalise import Options as Sweeps
        from edgeopt.passes.graphs.chains import pairs
        from edgeopt.passes.graphs.layers import Network

        shared = self.options.activation_bits > 0 or not self.options.per_channel
        if not (self.options.equalise and shared and pairs(Network.load(prepared))):
            return prepared
        balanced = context.work / "balanced.onnx"
        Equalise(Sweeps()).apply(prepared, balanced, context)
        return balanced

    def _roundings(self, network: nn.Module, weights: list[LayerWeight], context: PassContext) -> list[Rounding]:
        from edgeopt.passes.quantising.fake_quantisation import Rounding

        reduced = saturates(context.machine, context.isa)
        most = max(self.options.bits, self.options.bits_at_ends)
        ends = _small_ends(network, weights)
        bits = [most if weight.layer in ends else self.options.bits for weight in weights]
        return [
            Rounding(weight, bit, self.options.per_channel, reduced) for weight, bit in zip(weights, bits, strict=True)
        ]

    def _note(self, roundings: list[Rounding], *, labelled: bool) -> str:
        layers = {rounding.weight.layer: rounding.bits for rounding in roundings}
        counts = ", ".join(f"{count} layers in {bits} bits" for bits, count in sorted(Counter(layers.values()).items()))
        how = "after the original's outputs, without labels"
        if labelled:
            how = "on labels" if self.options.labels == 1 else "on labels and after the original's outputs"
        then = "quantise_static" if self.options.bits == 8 else "pack_weights"
        return f"trained {counts} {how}; {then} stores them so without further loss"


def _small_ends(network: nn.Module, weights: list[LayerWeight]) -> set[str]:
    """The first and the last layer, unless most of the network is there."""
    sizes: Counter[str] = Counter()
    for weight in weights:
        sizes[weight.layer] += weight.of(network).numel()
    most = _END_SHARE * sizes.total()
    return {weight.layer for weight in (weights[0], weights[-1]) if sizes[weight.layer] < most}


def _batches(samples: Samples, size: int) -> list[Any]:
    return [
        samples.batch(range(at, min(at + size, len(samples))))[0]
        for at in range(0, min(len(samples), size * _OBSERVED_BATCHES), size)
    ]
