"""SmoothQuant: moves outliers of activations into the weights that read them.

Source: Xiao, Lin, Seznec, Wu, Demouth, Han: SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models, 2023: Y = (X diag(s)⁻¹)(diag(s) W) (eq. 3) with s_j = max|X_j|^α / max|W_j|^(1 - α) (eq. 4). The
division is taken into what makes X: scale and bias of a layer normalisation, constants that X was multiplied by and
added to, or the linear layer before. The maxima of X are measured on calibration samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare

if TYPE_CHECKING:
    from edgeopt.passes.graphs.layers import Array, Layer, Network

_LEAST = 1e-5
"""Maxima below this count as this, as in the authors' code: a dead channel must not blow up its weights."""

_BETWEEN = frozenset({"Dropout", "Identity", "Relu"})


@dataclass(frozen=True)
class Options:
    """Options of `smooth_activations`.

    Attributes:
        alpha: How much of the range moves from activations to weights, 0 (none) to 1 (all); the paper's 0.5 suits most,
            0.75 and more suits strong outliers.
        samples: Largest number of calibration samples.
    """

    alpha: float = 0.5
    samples: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}, must be between 0 and 1")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")


class SmoothActivations(Pass):
    """SmoothQuant for MatMul and Gemm behind layer normalisation; the float network computes the same.

    Helps int8 transformers with outlier channels (large language and vision models); small networks without outliers
    gain nothing, and convolutional ones have nothing to smooth.
    """

    name: ClassVar[str] = "smooth_activations"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = EXACT
    needs_calibration: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"MatMul", "Gemm"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the smoothed network.

        Raises:
            PassError: No calibration samples, or no layer whose input can be scaled.
        """
        from edgeopt.passes.graphs.layers import Network
        from edgeopt.passes.graphs.watch import demand_samples

        samples = demand_samples(context.calibration, "smoothing")
        network = Network.load(prepare(source, context))
        spots = list(_spots(network))
        if not spots:
            raise PassError(
                "no MatMul or Gemm reads a layer normalisation or another layer alone, so there is nothing to smooth.",
                remedy="Convolutional networks: use equalise.",
            )
        largest = _largest(network, [spot.tensor for spot in spots], samples, self.options.samples)
        for spot in spots:
            _smooth(network, spot, largest[spot.tensor], self.options.alpha)
        network.save(destination)
        readers = sum(len(spot.readers) for spot in spots)
        return PassReport(notes=(f"smoothed the inputs of {readers} of {len(network.layers)} layers",))


@dataclass(frozen=True)
class _Spot:
    """An activation that can be divided channel by channel.

    Attributes:
        tensor: What the readers read; channels are its last axis.
        readers: All that read it: layers.
        scaled: Node and input index of the constants [C] to divide.
        before: The layer to divide the outputs of, where there is one.
    """

    tensor: str
    readers: tuple[Layer, ...]
    scaled: tuple[tuple[Any, int], ...] = ()
    before: Layer | None = None


def _spots(network: Network) -> Iterator[_Spot]:
    layers = {layer.name: layer for layer in network.layers if layer.operator != "Conv"}
    results = {network.output(layer): layer for layer in layers.values()}
    for tensor in dict.fromkeys(layer.input for layer in layers.values()):
        consumers = network.consumers(tensor)
        readers = tuple(layers[node.name] for node in consumers if node.name in layers and node.input[0] == tensor)
        is_output = any(value.name == tensor for value in network.model.graph.output)
        if len(readers) != len(consumers) or is_output:
            continue
        channels = readers[0].inputs
        if scaled := _affine(network, tensor, channels):
            yield _Spot(tensor, readers, scaled=scaled)
        elif (layer := results.get(_through(network, tensor))) is not None and layer.outputs == channels:
            yield _Spot(tensor, readers, before=layer)


def _affine(network: Network, tensor: str, channels: int) -> tuple[tuple[Any, int], ...]:
    """The constants [C] of the normalisation, or of the Mul and Add, that make a tensor; () where there are none."""
    node = network.producer(tensor)
    if node is None:
        return ()
    if node.op_type == "LayerNormalization":
        places = [(node, index) for index in range(1, len(node.input)) if node.input[index]]
        return tuple(places) if all(_is_vector(network, place, channels) for place in places) else ()
    shift = _constant_place(network, node, "Add", channels)
    if shift is not None:
        inner = node.input[1 - shift[1]]
        product = network.producer(inner)
        if product is None or network.only_consumer(inner) is None:
            return ()
        scale = _constant_place(network, product, "Mul", channels)
        return () if scale is None else (scale, shift)
    scale = _constant_place(network, node, "Mul", channels)
    return () if scale is None else (scale,)


def _constant_place(network: Network, node: Any, operator: str, channels: int) -> tuple[Any, int] | None:
    if node.op_type != operator:
        return None
    return next(((node, index) for index in (0, 1) if _is_vector(network, (node, index), channels)), None)


def _is_vector(network: Network, place: tuple[Any, int], channels: int) -> bool:
    """Whether an input is a constant with one number for each channel of the last axis."""
    value = network.constant(place[0].input[place[1]])
    return value is not None and value.ndim > 0 and value.shape[-1] == value.size == channels


def _through(network: Network, tensor: str) -> str:
    """The tensor before the nodes that let a positive factor pass and are read by the next one alone."""
    node = network.producer(tensor)
    while node is not None and node.op_type in _BETWEEN and network.only_consumer(node.input[0]) is not None:
        tensor = node.input[0]
        node = network.producer(tensor)
    return tensor


def _largest(network: Network, tensors: list[str], samples: Path, limit: int) -> dict[str, Array]:
    """Largest magnitude of each channel of the tensors' last axis, over the samples."""
    import numpy as np

    from edgeopt.passes.graphs.watch import watch

    found: dict[str, Array] = {}
    for values in watch(network.model, tensors, samples, limit):
        for name, value in values.items():
            peak = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], peak) if name in found else peak
    return found


def _smooth(network: Network, spot: _Spot, largest: Array, alpha: float) -> None:
    """Divide an activation by s (eq. 4) and multiply the weights that read it."""
    import numpy as np

    from edgeopt.passes.graphs.chains import input_columns, scaled_inputs, scaled_outputs

    weights = [network.weight(reader) for reader in spot.readers]
    reading = np.max([np.abs(input_columns(*both)).max(1) for both in zip(spot.readers, weights, strict=True)], axis=0)
    factor = np.maximum(largest, _LEAST) ** alpha / np.maximum(reading, _LEAST) ** (1 - alpha)
    factor = np.maximum(factor, _LEAST).astype(np.float64)
    for reader, weight in zip(spot.readers, weights, strict=True):
        network.set_weight(reader, scaled_inputs(reader, weight, factor))
    for node, index in spot.scaled:
        value = network.constant(node.input[index])
        assert value is not None
        network.set_constant(node, index, (value / factor).astype(np.float32))
    if spot.before is not None:
        network.set_weight(spot.before, scaled_outputs(network.weight(spot.before), 1 / factor))
        network.set_bias(spot.before, network.bias(spot.before) / factor)
