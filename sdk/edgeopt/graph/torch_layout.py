"""Translates ONNX nodes that move data or speak of sizes: reshape, slice, gather, concatenate, expand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_builder import Host, Step, Translation, parameter


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


def _concat(step: Step) -> fx.Node | Host:
    hosts = any(step.is_host(i) for i in step.inputs)
    if hosts and all(step.is_host(i) or step.constant(i) is not None or step.is_whole(i) for i in step.inputs):
        return Host(step.call(torch_shapes.join, *(step.host(i) for i in step.inputs)))
    axis, parts = step.attribute("axis"), [step.tensor(i) for i in step.inputs]
    stored = [c for i in step.inputs if (c := step.constant(i)) is not None]
    if axis != 0 and any(constant.shape[:1] == (1,) for constant in stored):
        return step.call(concatenate, parts, axis)
    return step.call(torch.cat, parts, axis)


def concatenate(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Side by side; parts of batch 1 are repeated, so that a file of batch 1 can be trained on more."""
    batch = next((part.shape[0] for part in parts if part.shape[0] != 1), 1)
    return torch.cat([part if part.shape[0] == batch else part.expand(batch, *part.shape[1:]) for part in parts], axis)


def split(x: Tensor, count: int, axis: int) -> tuple[Tensor, ...]:
    """Parts of equal size, the last one smaller where it does not fit; the sizes are constants of a trace."""
    total = int(x.shape[axis])
    size = -(-total // count)
    parts: tuple[Tensor, ...] = torch.split(x, [min(size, total - begin) for begin in range(0, total, size)], axis)
    return parts


def _split(step: Step) -> tuple[fx.Node, ...]:
    axis, sizes, count = step.attribute("axis", 0), step.constant(1), len(step.node.output)
    listed = step.attribute("split") if sizes is None else sizes.tolist()
    if step.has(1) and sizes is None:
        raise step.unsupported("the sizes of its parts are computed at run time")
    if listed is None or len(set(listed)) == 1:  # by count, so that it holds for fewer channels too
        parts = step.call(split, step.tensor(0), count, axis)
    else:
        parts = step.call(torch.split, step.tensor(0), listed, axis)
    return tuple(step.item(parts, index) for index in range(count))


def take(x: Tensor, starts: Sequence[Any], ends: Sequence[Any], axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """A slice along several axes, as ONNX counts it; negative steps go backwards."""
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index: list[Any] = [slice(None)] * (axis % x.dim()) + [slice(start, end, step)]
        x = _backwards(x, start, end, axis % x.dim(), -step) if step < 0 else x[tuple(index)]
    return x


def _backwards(x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    size = x.shape[axis]
    first = size - 1 - (min(start, size - 1) if start >= 0 else size + start)
    last = size if end < -size else size - 1 - (end if end >= 0 else size + end)
    index = [slice(None)] * axis + [slice(first, last, step)]
    return x.flip(axis)[tuple(index)]


def _slice(step: Step) -> fx.Node | Host:
    if step.opset < 10:
        starts, ends = list(step.attribute("starts")), list(step.attribute("ends"))
        axes, steps = step.attribute("axes"), None
    else:
        starts, ends = step.host(1), step.host(2)
        axes = step.demand(3, "list of axes").tolist() if step.has(3) else None
        steps = step.demand(4, "list of steps").tolist() if step.has(4) else None
    count = len(axes or steps or (starts if isinstance(starts, list) else ends if isinstance(ends, list) else [0]))
    axes, steps = list(axes or range(count)), list(steps or [1] * count)
    if step.is_host(0):
        first, last = (b[0] if isinstance(b, list) else step.call(torch_shapes.as_number, b) for b in (starts, ends))
        return Host(step.call(torch_shapes.cut, step.host(0), first, last, steps[0]))
    return step.call(take, step.tensor(0), starts, ends, axes, steps)


def gather(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Rows of `x` along `axis`; `index` of any rank, none negative."""
    axis = axis % x.dim()
    picked = torch.index_select(x, axis, index.reshape(-1))
    return picked if index.dim() == 1 else picked.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _gather(step: Step) -> fx.Node | Host:
    axis, index, table = step.attribute("axis", 0), step.constant(1), step.constant(0)
    if step.is_host(0):
        picked = step.host(1) if index is None else index.tolist()
        return Host(step.call(torch_shapes.pick, step.host(0), picked))
    if index is not None and index.ndim == 0:
        return step.call(torch.select, step.tensor(0), axis, int(index))
    if table is not None and table.ndim == 2 and axis == 0 and table.dtype.kind == "f" and index is None:
        module = nn.Embedding(*table.shape)
        module.weight = parameter(table)
        return step.module(module, step.tensor(1))
    return step.call(gather, step.tensor(0), step.index(1, axis), axis)


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


def _top_k(step: Step) -> tuple[fx.Node, ...]:
    count = step.attribute("k") if step.opset < 10 else int(step.demand(1, "k").item())
    largest, ordered = bool(step.attribute("largest", 1)), bool(step.attribute("sorted", 1))
    parts = step.call(torch.topk, step.tensor(0), count, step.attribute("axis", -1), largest, ordered)
    return step.item(parts, 0), step.item(parts, 1)


def _einsum(step: Step) -> fx.Node:
    return step.call(torch.einsum, step.attribute("equation"), *(step.tensor(i) for i in step.inputs))


LAYOUT: dict[str, Translation] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": lambda step: step.call(
        torch.gather, step.tensor(0), step.attribute("axis", 0), step.index(1, step.attribute("axis", 0))
    ),
    "Expand": _expand,
    "Tile": lambda step: step.call(tile, step.tensor(0), step.host(1)),
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": lambda step: step.call(space_to_depth, step.tensor(0), step.attribute("blocksize")),
    "TopK": _top_k,
    "Einsum": _einsum,
    "Trilu": lambda step: step.call(
        torch.triu if step.attribute("upper", 1) else torch.tril, step.tensor(0), step.host(1) if step.has(1) else 0
    ),
}
