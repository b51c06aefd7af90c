"""Translates ONNX nodes that take tensors apart and put them together: slice, split, gather, concatenate, top k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_builder import Host
from edgeopt.graph.torch_step import Step, Translation, parameter

_FAR = 1 << 31
"""Ends of slices beyond it mean "all of it"."""


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
    if start == -1 and end < -_FAR:
        return x.flip(axis) if step == 1 else x.flip(axis)[(slice(None),) * axis + (slice(None, None, step),)]
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


def _top_k(step: Step) -> tuple[fx.Node, ...]:
    count = step.attribute("k") if step.opset < 10 else int(step.demand(1, "k").item())
    largest, ordered = bool(step.attribute("largest", 1)), bool(step.attribute("sorted", 1))
    parts = step.call(torch.topk, step.tensor(0), count, step.attribute("axis", -1), largest, ordered)
    return step.item(parts, 0), step.item(parts, 1)


INDEXING: dict[str, Translation] = {
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": lambda step: step.call(
        torch.gather, step.tensor(0), step.attribute("axis", 0), step.index(1, step.attribute("axis", 0))
    ),
    "TopK": _top_k,
}
