"""Runs calibration samples through a part of a network and yields what inner tensors hold, one sample at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view

from edgeopt.errors import PassError
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes.graphs.layers import Array, Layer, Network, attribute
from edgeopt.passes.graphs.questions import reads
from edgeopt_runner.protocol.samples import SampleFile


def demand_samples(samples: Path | None, what: str) -> Path:
    """The calibration samples.

    Raises:
        PassError: There are none.
    """
    if samples is None:
        raise PassError(f"{what} needs calibration samples.", remedy="Give --data.")
    if not SampleFile(str(samples)).count:
        raise PassError("the calibration set is empty.", remedy="Give more data, or a smaller evaluation set.")
    return samples


def watch(model: onnx.ModelProto, tensors: Sequence[str], samples: Path, limit: int) -> Iterator[dict[str, Array]]:
    """Values of tensors by name, for each of the first `limit` samples; runs only the nodes that they depend on.

    Raises:
        PassError: One of them is not finite.
        ModelError: The part does not load or run.
    """
    part = upstream(model, tensors)
    fed = {value.name for value in part.graph.input}
    session = open_session(part.SerializeToString()) if part.graph.output else None
    for index, sample in enumerate(SampleFile(str(samples)).read(limit)):
        feed = {name: value for name, value in sample.inputs.items() if name in fed}
        found = {**feed, **(run_feed(session, feed) if session else {})}
        for name in tensors:
            if not np.isfinite(found[name]).all():
                raise PassError(f"tensor {name!r} is not finite for calibration sample {index}.")
        yield {name: found[name] for name in tensors}


def upstream(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The part of a model that computes `tensors`, which become its outputs."""
    needed, nodes = set(tensors), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(reads(node))
    made = {name for node in nodes for name in node.output}
    graph = onnx.helper.make_graph(
        nodes[::-1],
        "part",
        [value for value in model.graph.input if value.name in needed],
        [onnx.ValueInfoProto(name=name) for name in tensors if name in made],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def channel_mean(layer: Layer, output: Array) -> Array:
    """Mean of a layer's output over all but its channels, float64 [O]."""
    axis = 1 if layer.operator == "Conv" else output.ndim - 1
    others = tuple(index for index in range(output.ndim) if index != axis)
    mean: Array = output.mean(axis=others, dtype=np.float64)
    return mean


def rows(
    network: Network, layer: Layer, read: Array, made: Array, *, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """What a layer multiplies and what it should give, at places of its output drawn without replacement.

    Args:
        network: The layer's.
        layer: A layer.
        read: Its input.
        made: Its output.
        count: Places; fewer where the output has fewer.
        rng: Draws the places.

    Returns:
        Inputs [count, groups, I / groups * kernel elements] and outputs [count, O].
    """
    if layer.operator != "Conv":
        inputs, outputs = read.reshape(-1, 1, layer.inputs), made.reshape(-1, layer.outputs)
        drawn = _drawn(len(outputs), count, rng)
        return inputs[drawn], outputs[drawn]
    windows = _windows(network.node(layer.name), layer, read)
    spatial = made.shape[2:]
    places = np.unravel_index(_drawn(len(made) * int(np.prod(spatial)), count, rng), (len(made), *spatial))
    at: Any = (places[0], slice(None), *places[1:])
    patches = windows[at]
    return patches.reshape(len(patches), layer.groups, -1), made[at]


def _drawn(total: int, count: int, rng: np.random.Generator) -> Array:
    return np.sort(rng.permutation(total)[:count])


def _windows(node: onnx.NodeProto, layer: Layer, read: Array) -> Array:
    """A view [N, I, *output places, *kernel] of a convolution's input, padded."""
    rank = len(layer.kernel)
    strides, dilations = (list(attribute(node, name, [1] * rank)) for name in ("strides", "dilations"))
    extents = [(size - 1) * step + 1 for size, step in zip(layer.kernel, dilations, strict=True)]
    pads = _pads(node, read.shape[2:], extents, strides)
    padded = np.pad(read, [(0, 0), (0, 0), *pads])
    axes: Any = tuple(range(2, 2 + rank))  # numpy's stub knows one axis only
    windows = sliding_window_view(padded, extents, axis=axes)
    at = [slice(None)] * 2 + [slice(None, None, step) for step in strides + dilations]
    view: Array = windows[tuple(at)]
    return view


def _pads(node: onnx.NodeProto, sizes: Sequence[int], extents: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """Zeros before and after along each spatial axis (ONNX: Conv, attribute `auto_pad`)."""
    mode, rank = attribute(node, "auto_pad", "NOTSET"), len(sizes)
    if mode in ("NOTSET", "VALID"):
        flat = attribute(node, "pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
        return list(zip(flat[:rank], flat[rank:], strict=True))
    pads = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        short = total // 2
        pads.append((short, total - short) if mode == "SAME_UPPER" else (total - short, short))
    return pads
