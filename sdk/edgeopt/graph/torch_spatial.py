"""Translates ONNX nodes that work on pictures and signals: pooling, padding, resizing, local normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgeopt.graph.torch_builder import Step, Translation
from edgeopt.graph.torch_layers import pads_of, torch_pads

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


SPATIAL: dict[str, Translation] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
}
