"""Translates ONNX nodes that move data or speak of sizes: reshape, transpose, expand, shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, fx

from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_builder import Host
from edgeopt.graph.torch_step import Step, Translation


def reshape(x: Tensor, target: Sequence[Any], copies: Sequence[int] = ()) -> Tensor:
    """Reshape to `target`, with the sizes of `x` itself at the places in `copies`."""
    return torch.reshape(x, [x.shape[i] if i in copies else size for i, size in enumerate(target)])


def _reshape(step: Step) -> fx.Node | Host:
    if step.is_host(0):
        return Host(_host_reshape(step))
    constant = step.constant(1)
    if constant is None:
        return step.call(reshape, step.tensor(0), step.host(1))
    target = [int(size) for size in constant]
    copies = [i for i, size in enumerate(target) if size == 0] if not step.attribute("allowzero", 0) else []
    target, copies = _survivable(target, copies, step.shape(0))
    if len(target) >= 1 and target[-1] == -1 and copies == list(range(len(target) - 1)):
        return step.call(torch.flatten, step.tensor(0), len(target) - 1)
    return step.call(reshape, step.tensor(0), target, copies)


def _host_reshape(step: Step) -> fx.Node:
    constant = step.constant(1)
    scalar = constant is not None and constant.size == 0
    return step.call(torch_shapes.as_number if scalar else torch_shapes.as_list, step.host(0))


def _survivable(
    target: list[int], copies: list[int], shape: Sequence[int | None] | None
) -> tuple[list[int], list[int]]:
    """The same target, with as few fixed sizes as possible, so that it holds for other batches and channel counts.

    Leading sizes that stay are copied at run time; of the others the first is left to be inferred, unless one is so.
    """
    if shape is None:
        return target, copies
    free = target.index(-1) if -1 in target else None
    if free is not None:
        target = _solved(target, copies, free, shape)
        free = target.index(-1) if -1 in target else None
    lead = 0
    while lead < min(len(target), len(shape)) and (lead in copies or target[lead] in (shape[lead], -2)):
        lead += 1
    copies = sorted({*copies, *range(lead)})
    target = [0 if i in copies else size for i, size in enumerate(target)]
    if -1 not in target and lead < len(target):
        target[lead] = -1
    return target, copies


def _solved(target: list[int], copies: list[int], free: int, shape: Sequence[int | None]) -> list[int]:
    """Put -2 ("as it is") for an inferred leading size that is the dynamic one of `shape` unchanged."""
    if free >= len(shape) or shape[free] is not None or shape.count(None) != 1:
        return target
    kept = [shape[i] if i in copies else size for i, size in enumerate(target) if i != free]
    before, after = (math.prod(size for size in sizes if size is not None) for sizes in (shape, kept))
    return [-2 if i == free else size for i, size in enumerate(target)] if before == after else target


def _flatten(step: Step) -> fx.Node:
    axis, rank = step.attribute("axis", 1), step.rank(0)
    if axis == 1:
        return step.call(torch.flatten, step.tensor(0), 1)
    if axis in (-1, (rank or 0) - 1) and rank:
        return step.call(torch.flatten, step.tensor(0), 0, rank - 2)
    return step.call(flatten_at, step.tensor(0), axis)


def flatten_at(x: Tensor, axis: int) -> Tensor:
    """Two dimensions: all before `axis`, all from it on."""
    axis = axis if axis >= 0 else axis + x.dim()
    return x.reshape(1, -1) if axis == 0 else x.flatten(axis).flatten(0, axis - 1)


def _transpose(step: Step) -> fx.Node:
    order = step.attribute("perm")
    rank = step.rank(0)
    if order is None:
        if rank is None:
            raise step.unsupported("the order of axes is not given and the rank not known")
        order = list(reversed(range(rank)))
    return step.call(torch.permute, step.tensor(0), list(order))


def squeeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Take out axes of size 1."""
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.squeeze(axis)
    return x


def unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Put in axes of size 1, counted in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(step: Step) -> fx.Node | Host:
    if step.is_host(0):
        return Host(step.call(torch_shapes.as_number, step.host(0)))
    axes = step.axes(1)
    if axes is None:
        shape = step.shape(0)
        if shape is None:
            raise step.unsupported("the axes to take out are neither given nor known")
        axes = [i for i, size in enumerate(shape) if size == 1]
    if len(axes) == 1:
        return step.call(torch.squeeze, step.tensor(0), axes[0])
    return step.call(squeeze, step.tensor(0), axes)


def _unsqueeze(step: Step) -> fx.Node | Host:
    axes = step.axes(1) or []
    if step.is_host(0) and step.rank(0) == 0:
        return Host(step.call(torch_shapes.as_list, step.host(0)))
    if len(axes) == 1:
        return step.call(torch.unsqueeze, step.tensor(0), axes[0])
    return step.call(unsqueeze, step.tensor(0), axes)


def expand(x: Tensor, sizes: Sequence[Any]) -> Tensor:
    """Repeat along axes of size 1; a size of 1 asks for nothing."""
    sizes = list(sizes)
    own = [1] * (len(sizes) - x.dim()) + list(x.shape)
    sizes = [1] * (len(own) - len(sizes)) + sizes
    fixed = [isinstance(size, int) and size == 1 for size in sizes]
    return x.expand(
        [
            -1 if one and i >= len(own) - x.dim() else size
            for i, (one, size) in enumerate(zip(fixed, sizes, strict=True))
        ]
    )


def _expand(step: Step) -> fx.Node:
    sizes, rank = step.constant(1), step.rank(0)
    if sizes is not None and rank is not None and sizes.size <= rank and set(sizes.tolist()) <= {1}:
        x: fx.Node = step.tensor(0)
        return x
    return step.call(expand, step.tensor(0), step.host(1))


def tile(x: Tensor, repeats: Sequence[Any]) -> Tensor:
    """Repeat the whole along each axis."""
    return x.repeat(list(repeats))


def _shape(step: Step) -> Host:
    start, end = step.attribute("start", 0), step.attribute("end")
    return Host(step.call(torch_shapes.shape_of, step.tensor(0), start, end))


def _size(step: Step) -> Host:
    return Host(step.call(torch_shapes.product, step.call(torch_shapes.shape_of, step.tensor(0))))


def full(sizes: Sequence[Any], value: float, dtype: torch.dtype) -> Tensor:
    """A tensor of one value."""
    return torch.full(list(sizes), value, dtype=dtype)


def _constant_of_shape(step: Step) -> fx.Node | Host:
    value = step.attribute("value")
    array = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    if array.dtype.kind == "i" and len(step.shape_of_output() or (0, 0)) == 1:
        return Host(step.call(torch_shapes.fill, step.host(0), array.item()))
    return step.call(full, step.host(0), array.item(), torch.from_numpy(array.copy()).dtype)


def _range(step: Step) -> fx.Node:
    start, limit, delta = (step.call(torch_shapes.as_number, step.host(i)) for i in range(3))
    return step.call(torch.arange, start, limit, delta)


def _depth_to_space(step: Step) -> fx.Node:
    size = step.attribute("blocksize")
    if step.attribute("mode", "DCR") == "CRD":
        return step.call(torch.pixel_shuffle, step.tensor(0), size)
    return step.call(depth_to_space, step.tensor(0), size)


def depth_to_space(x: Tensor, size: int) -> Tensor:
    """ONNX's DCR order: [N, size * size * C, H, W] to [N, C, H * size, W * size]."""
    n, _, h, w = x.shape
    return x.reshape(n, size, size, -1, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * size, w * size)


def space_to_depth(x: Tensor, size: int) -> Tensor:
    """The way back: [N, C, H, W] to [N, size * size * C, H / size, W / size]."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, -1, h // size, w // size)


def _einsum(step: Step) -> fx.Node:
    return step.call(torch.einsum, step.attribute("equation"), *(step.tensor(i) for i in step.inputs))


LAYOUT: dict[str, Translation] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": lambda step: step.call(tile, step.tensor(0), step.host(1)),
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": lambda step: step.call(space_to_depth, step.tensor(0), step.attribute("blocksize")),
    "Einsum": _einsum,
    "Trilu": lambda step: step.call(
        torch.triu if step.attribute("upper", 1) else torch.tril, step.tensor(0), step.host(1) if step.has(1) else 0
    ),
}
