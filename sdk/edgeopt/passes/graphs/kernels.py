"""Smaller kernels for convolutions: which taps stay, and what keeps every shape."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgeopt.passes.graphs.layers import Array, Layer, Network, attribute, set_attribute
from edgeopt.passes.graphs.prepare import opset_of

_SLICE_OPSET = 10
"""The first in which Slice takes its places as inputs."""

_CLEARLY_MORE = 1.1
_TO_THE_END = np.iinfo(np.int64).max


class Unshrinkable(Exception):
    """Why a layer keeps its kernel."""


@dataclass(frozen=True)
class Window:
    """The taps of a kernel that stay, by axis.

    Attributes:
        begin: Taps that go before them.
        end: Taps that go behind them.
        kernel: Taps that stay.
        energy: Share of the squared weights that stays.
    """

    begin: tuple[int, ...]
    end: tuple[int, ...]
    kernel: tuple[int, ...]
    energy: float

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.kernel))} ({self.energy:.0%} of its squared weights)"


def larger_kernels(network: Network, size: int, only: Collection[str] = ()) -> dict[str, str]:
    """Names of convolutions with a larger kernel, and why each keeps it; empty where it can be cropped.

    Args:
        network: The graph.
        size: Most taps along each axis.
        only: Look at these alone; empty: at all.
    """
    layers, found = {layer.name: layer for layer in network.layers}, {}
    for node in network.model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or (only and node.name not in only):
            continue
        layer = layers.get(node.name)
        kernel = layer.kernel if layer else attribute(node, "kernel_shape", [0])
        if max(kernel) > size:
            reason = network.skipped.get(node.name, "its weights are computed")
            found[node.name] = "" if layer else "it is transposed" if node.op_type == "ConvTranspose" else reason
    return found


def known_shapes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Shapes of tensors as far as they can be inferred; ``None`` for free sizes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: [
            size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.value_info)
    }


def strongest_window(weight: Array, size: int) -> Window:
    """The window of at most `size` taps along each axis that keeps most of the squared weights.

    The middle one stays unless another keeps a tenth more: what is aside of it moves what the layer sees.

    Args:
        weight: [O, I / groups, *kernel].
        size: At least 1.
    """
    energy = np.square(weight, dtype=np.float64).sum((0, 1))
    kernel = tuple(min(taps, size) for taps in energy.shape)
    room = [taps - kept for taps, kept in zip(energy.shape, kernel, strict=True)]

    def kept_from(begin: tuple[int, ...]) -> float:
        return float(energy[tuple(slice(at, at + taps) for at, taps in zip(begin, kernel, strict=True))].sum())

    anywhere = max(itertools.product(*(range(out + 1) for out in room)), key=kept_from)
    middle = max(itertools.product(*((out // 2, (out + 1) // 2) for out in room)), key=kept_from)
    begin = anywhere if kept_from(anywhere) > _CLEARLY_MORE * kept_from(middle) else middle
    end = tuple(out - at for at, out in zip(begin, room, strict=True))
    return Window(begin, end, kernel, kept_from(begin) / (float(energy.sum()) or 1.0))


def shrink(network: Network, layer: Layer, size: int, shapes: Mapping[str, Sequence[int | None]]) -> Window:
    """Crop a convolution's kernel; what it puts out keeps its shape, and is the same but for the taps that went.

    Pads are cut with the taps. Where there are fewer pads than taps that go, the input is cropped in front of it.

    Args:
        network: Changed.
        layer: A convolution with a kernel larger than `size`.
        size: Most taps along each axis.
        shapes: Of tensors as far as they are known.

    Raises:
        Unshrinkable: Its pads are not known, or the operator set cannot crop.
    """
    node, weight = network.node(layer.name), network.weight(layer)
    window, rank = strongest_window(weight, size), len(layer.kernel)
    dilations = attribute(node, "dilations", [1] * rank)
    cut = [taps * step for taps, step in zip((*window.begin, *window.end), (*dilations, *dilations), strict=True)]
    left = [pad - out for pad, out in zip(_pads(node, layer, shapes), cut, strict=True)]
    if min(left) < 0 and opset_of(network.model) < _SLICE_OPSET:
        raise Unshrinkable(f"it has no pads to cut, and opset {opset_of(network.model)} cannot crop its input")
    kept = tuple(slice(at, at + taps) for at, taps in zip(window.begin, window.kernel, strict=True))
    network.set_weight(layer, weight[(slice(None), slice(None), *kept)])
    set_attribute(node, "kernel_shape", list(window.kernel))
    set_attribute(node, "pads", [max(pad, 0) for pad in left])
    set_attribute(node, "auto_pad", None)
    if min(left) < 0:
        starts = [max(-pad, 0) for pad in left[:rank]]
        ends = [pad if pad < 0 else _TO_THE_END for pad in left[rank:]]
        places = [np.array(values, dtype=np.int64) for values in (starts, ends, range(2, rank + 2))]
        network.read_through(layer, "Slice", places)
    return window


def _pads(node: onnx.NodeProto, layer: Layer, shapes: Mapping[str, Sequence[int | None]]) -> list[int]:
    """Pads before each axis, then behind each, as numbers (onnx operator Conv, attribute auto_pad)."""
    rank, mode = len(layer.kernel), attribute(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return list(attribute(node, "pads", [0] * 2 * rank)) if mode == "NOTSET" else [0] * 2 * rank
    strides, dilations = (attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    sizes = list(shapes.get(layer.input, ()))[2:] or [None] * rank
    before, behind = [], []
    for taps, stride, dilation, size in zip(layer.kernel, strides, dilations, sizes, strict=True):
        if stride > 1 and size is None:
            raise Unshrinkable(f"auto_pad {mode} with stride {stride} and a free size of the input")
        reach = dilation * (taps - 1) + 1
        total = reach - 1 if size is None else max(0, (-(-size // stride) - 1) * stride + reach - size)
        before.append((total + 1) // 2 if mode == "SAME_LOWER" else total // 2)
        behind.append(total - before[-1])
    return before + behind
