"""Pairs of layers between which the scale of each channel can be moved without a change of the function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgeopt.passes.graphs.layers import Array, Layer, Network, attribute

_ELEMENTWISE = frozenset({"Dropout", "Identity", "LeakyRelu", "PRelu", "Relu"})
"""f(s x) = s f(x) for s > 0, wherever the channels are (Nagel et al. 2019, eq. 2)."""

_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
"""The same, for channels along axis 1."""


@dataclass(frozen=True)
class Pair:
    """Two layers of which the second alone reads what the first makes.

    Attributes:
        first: Its output channels are scaled down.
        second: Its input channels are scaled up.
        between: Names of the nodes between them, in order.
        repeat: Inputs of `second` that come from one channel of `first` (a flattened picture), else 1.
    """

    first: Layer
    second: Layer
    between: tuple[str, ...]
    repeat: int = 1


def pairs(network: Network, passing: frozenset[str] = frozenset()) -> list[Pair]:
    """All pairs of a network, in topological order.

    Args:
        network: Batch norms folded.
        passing: Names of nodes that are to count as homogeneous too.
    """
    layers = {layer.name: layer for layer in network.layers}
    found = []
    for first in network.layers:
        between: list[str] = []
        tensor = network.output(first)
        while (node := network.only_consumer(tensor)) is not None and _passes(node, first, network, passing):
            between.append(node.name)
            tensor = node.output[0]
        second = layers.get(node.name) if node is not None else None
        flat = any(network.node(name).op_type == "Flatten" for name in between)
        if second is not None and second.input == tensor and _fit(first, second, flat):
            found.append(Pair(first, second, tuple(between), second.inputs // first.outputs))
    return found


def input_columns(layer: Layer, weight: Array) -> Array:
    """A layer's weights by input channel: [I, weights that read it]; a copy."""
    grouped = weight.reshape(layer.groups, layer.outputs // layer.groups, layer.inputs // layer.groups, -1)
    columns: Array = grouped.transpose(0, 2, 1, 3).reshape(layer.inputs, -1)
    return columns


def scaled_inputs(layer: Layer, weight: Array, factor: Array) -> Array:
    """Weights [O, I / groups, *kernel] with those that read input channel i multiplied by `factor` [I][i]."""
    grouped = weight.reshape(layer.groups, layer.outputs // layer.groups, layer.inputs // layer.groups, -1)
    scaled: Array = (grouped * factor.reshape(layer.groups, 1, -1, 1)).reshape(weight.shape)
    return scaled


def scaled_outputs(weight: Array, factor: Array) -> Array:
    """Weights with those of output channel o multiplied by `factor` [O][o]."""
    scaled: Array = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return scaled


def _passes(node: onnx.NodeProto, first: Layer, network: Network, passing: frozenset[str]) -> bool:
    """Whether scaling a channel before a node is the same as scaling it behind."""
    if node.name in passing:
        return True
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "PRelu":
        return network.constant(node.input[1]) is not None
    if node.op_type == "Flatten":
        return first.operator == "Conv" and attribute(node, "axis", 1) == 1
    if node.op_type == "ReduceMean":
        return first.operator == "Conv" and _axes(node, network, 2 + len(first.kernel)).isdisjoint({0, 1, None})
    return node.op_type in _ELEMENTWISE or (node.op_type in _POOLS and first.operator == "Conv")


def _axes(node: onnx.NodeProto, network: Network, rank: int) -> set[int | None]:
    """Axes that a ReduceMean goes over (an attribute up to opset 17, then an input); {None} where that is not known."""
    axes = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1:
        axes = network.constant(node.input[1])
    return {None} if axes is None else {int(axis) % rank for axis in np.ravel(axes)}


def _fit(first: Layer, second: Layer, flat: bool) -> bool:
    """Whether the input channels of one are the output channels of the other, along the same axis."""
    if first.operator == "Conv" and second.operator != "Conv":
        return (flat or second.operator == "Gemm") and second.inputs % first.outputs == 0
    same = (first.operator == "Conv") == (second.operator == "Conv")
    return same and not flat and first.outputs == second.inputs
