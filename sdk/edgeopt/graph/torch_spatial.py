"""Translates ONNX nodes that work on pictures and signals: pooling, padding, resizing, local normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_layers import pads_of, torch_pads
from edgeopt.graph.torch_step import Step, Translation

_MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_GLOBAL_MAX = {3: nn.AdaptiveMaxPool1d, 4: nn.AdaptiveMaxPool2d, 5: nn.AdaptiveMaxPool3d}
_GLOBAL_AVERAGE = {3: nn.AdaptiveAvgPool1d, 4: nn.AdaptiveAvgPool2d, 5: nn.AdaptiveAvgPool3d}


def _window(step: Step) -> tuple[list[int], list[int], list[int], list[int]]:
    kernel = list(step.attribute("kernel_shape"))
    strides = list(step.attribute("strides", [1] * len(kernel)))
    dilations = list(step.attribute("dilations", [1] * len(kernel)))
    return kernel, strides, dilations, pads_of(step, kernel, strides, dilations)


def _fits(kernel: list[int], pads: list[int]) -> bool:
    """Whether torch pads like this by itself: both ends alike, at most half the window."""
    half = len(kernel)
    return pads[:half] == pads[half:] and all(2 * size <= width for size, width in zip(pads, kernel, strict=False))


def _max_pool(step: Step) -> fx.Node:
    if len([name for name in step.node.output if name]) > 1:
        raise step.unsupported("it gives the positions too")
    kernel, strides, dilations, pads = _window(step)
    x, rank, ceil = step.tensor(0), len(kernel), bool(step.attribute("ceil_mode", 0))
    if not _fits(kernel, pads):
        x, pads = step.call(functional.pad, x, torch_pads(pads), "constant", float("-inf")), [0] * 2 * rank
    module = _MAX_POOLS[rank](tuple(kernel), tuple(strides), tuple(pads[:rank]), tuple(dilations), ceil_mode=ceil)
    return step.module(module, x)


def _average_pool(step: Step) -> fx.Node:
    kernel, strides, dilations, pads = _window(step)
    if set(dilations) != {1}:
        raise step.unsupported("its window is dilated")
    x, rank, ceil = step.tensor(0), len(kernel), bool(step.attribute("ceil_mode", 0))
    counted = bool(step.attribute("count_include_pad", 0))
    if _fits(kernel, pads):
        module = _AVERAGE_POOLS[rank](tuple(kernel), tuple(strides), tuple(pads[:rank]), ceil, counted)
        return step.module(module, x)
    module = _AVERAGE_POOLS[rank](tuple(kernel), tuple(strides), 0, ceil)
    if counted:
        return step.module(module, step.call(functional.pad, x, torch_pads(pads)))
    return step.call(mean_of_inside, x, torch_pads(pads), kernel, strides, ceil)


def mean_of_inside(x: Tensor, pads: list[int], kernel: list[int], strides: list[int], ceil: bool) -> Tensor:
    """Average pooling that leaves the padding out of the count, for padding that differs between the ends."""
    pool: Any = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(kernel)]
    share = pool(functional.pad(torch.ones_like(x), pads), kernel, strides, 0, ceil)
    result: Tensor = pool(functional.pad(x, pads), kernel, strides, 0, ceil) / share
    return result


def _global_average(step: Step) -> fx.Node:
    return step.module(_GLOBAL_AVERAGE[step.rank(0) or 4](1), step.tensor(0))


def _global_max(step: Step) -> fx.Node:
    return step.module(_GLOBAL_MAX[step.rank(0) or 4](1), step.tensor(0))


def _pad(step: Step) -> fx.Node:
    mode = step.attribute("mode", "constant")
    pads = step.attribute("pads") if step.opset < 11 else step.demand(1, "list of pads").tolist()
    value = step.attribute("value", 0.0)
    if step.has(2):
        value = step.demand(2, "value").item()
    if step.has(3):
        pads = _on_axes(step, pads, step.demand(3, "list of axes").tolist())
    if mode == "constant":
        return step.call(functional.pad, step.tensor(0), torch_pads(pads), "constant", value)
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    turned = torch_pads(pads)
    while turned and turned[-2:] == [0, 0] and len(turned) > 2 * max(1, len(pads) // 2 - 2):
        turned = turned[:-2]
    return step.call(functional.pad, step.tensor(0), turned, names[mode])


def _on_axes(step: Step, pads: list[int], axes: list[int]) -> list[int]:
    """Pads of some axes as pads of all."""
    rank = step.rank(0)
    if rank is None:
        raise step.unsupported("it pads some axes of a tensor whose rank is not known")
    spread = [0] * 2 * rank
    for i, axis in enumerate(axes):
        spread[axis % rank], spread[rank + axis % rank] = pads[i], pads[len(axes) + i]
    return spread


_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def _upsample(step: Step) -> fx.Node:
    scales = step.attribute("scales") if step.opset < 9 else step.demand(1, "list of scales").tolist()
    if step.attribute("mode", "nearest") != "nearest":
        raise step.unsupported(f"mode {step.attribute('mode')} of opset {step.opset} has no counterpart")
    return step.module(nn.Upsample(scale_factor=tuple(scales[2:]), mode="nearest"), step.tensor(0))


def resize(x: Tensor, sizes: list[Any], mode: str, corners: bool | None) -> Tensor:
    """To given sizes of the dimensions after the second."""
    return functional.interpolate(x, size=sizes, mode=mode, align_corners=corners)


def _resize(step: Step) -> fx.Node:
    if step.opset < 11:
        return _upsample(step)
    rank = step.rank(0) or (len(c) if (c := step.constant(2)) is not None else 4)
    scales = _resize_scales(step, rank)
    mode, corners = _resize_mode(step, rank, scales)
    if scales is not None:
        if any(scale != 1.0 for scale in scales[:2]):
            raise step.unsupported("it resizes batch or channels")
        return step.module(
            nn.Upsample(scale_factor=tuple(scales[2:]), mode=mode, align_corners=corners), step.tensor(0)
        )
    if not step.has(3):
        raise step.unsupported("its scales are computed at run time")
    sizes = step.host(3)
    axes = step.attribute("axes")
    if axes is None:
        sizes = sizes[2:] if isinstance(sizes, list) else step.call(torch_shapes.cut, sizes, 2, rank)
    elif list(axes) != list(range(2, rank)):
        raise step.unsupported(f"it resizes axes {axes}")
    return step.call(resize, step.tensor(0), sizes, mode, corners)


def _resize_scales(step: Step, rank: int) -> list[float] | None:
    """A scale an axis, where they are constants."""
    constant = step.constant(2)
    if constant is None or constant.size == 0:
        return None
    axes = step.attribute("axes") or range(rank)
    scales = [1.0] * rank
    for axis, scale in zip(axes, constant.tolist(), strict=True):
        scales[axis] = float(scale)
    return scales


def _resize_mode(step: Step, rank: int, scales: list[float] | None) -> tuple[str, bool | None]:
    """Name of the interpolation in torch, and ``align_corners`` for those that have it.

    torch's nearest takes ``floor(i / scale)``; other rules are the same for whole factors or not there.
    """
    mode, where = step.attribute("mode", "nearest"), step.attribute("coordinate_transformation_mode", "half_pixel")
    if step.attribute("antialias", 0) or step.attribute("exclude_outside", 0):
        raise step.unsupported("it filters against aliasing or leaves out what is outside")
    if mode == "nearest":
        rule = step.attribute("nearest_mode", "round_prefer_floor")
        whole = scales is not None and all(scale >= 1 and scale == int(scale) for scale in scales)
        doubling = whole and max(scales or [0]) <= 2
        if (where, rule) == ("asymmetric", "floor") or (whole and "half_pixel" in where and "round" in rule):
            return "nearest", None
        if doubling and (where, rule) == ("asymmetric", "round_prefer_floor"):
            return "nearest", None
        raise step.unsupported(f"nearest with {where} and {rule} has no counterpart")
    name = _LINEAR.get(rank) if mode == "linear" else "bicubic" if rank == 4 and mode == "cubic" else None
    if name is None or where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise step.unsupported(f"{mode} with {where} has no counterpart")
    if mode == "cubic" and step.attribute("cubic_coeff_a", -0.75) != -0.75:
        raise step.unsupported("its cubic has another coefficient than torch's")
    return name, where == "align_corners"


def _local_response(step: Step) -> fx.Node:
    size = step.attribute("size")
    if size % 2 == 0:
        raise step.unsupported(f"its window {size} is even")
    rest = (step.attribute("alpha", 1e-4), step.attribute("beta", 0.75), step.attribute("bias", 1.0))
    return step.module(nn.LocalResponseNorm(size, *rest), step.tensor(0))


def _lp_norm(step: Step) -> fx.Node:
    return step.call(functional.normalize, step.tensor(0), step.attribute("p", 2), step.attribute("axis", -1))


SPATIAL: dict[str, Translation] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _upsample,
    "LRN": _local_response,
    "LpNormalization": _lp_norm,
}
