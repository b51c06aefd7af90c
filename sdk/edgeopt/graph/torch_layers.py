"""Translates ONNX nodes that bear weights to torch layers: convolution, linear, normalisation, embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from edgeopt.graph.torch_step import Step, Translation, parameter

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def pads_of(step: Step, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Padding as ONNX writes it: all the beginnings, then all the ends; ``auto_pad`` worked out.

    Raises:
        ModelError: ``auto_pad`` with a stride needs sizes that are not known.
    """
    how, rank = step.attribute("auto_pad", "NOTSET"), len(kernel)
    if how == "NOTSET":
        return list(step.attribute("pads", [0] * 2 * rank))
    if how == "VALID":
        return [0] * 2 * rank
    sizes = (step.shape(0) or (None,) * (rank + 2))[2:]
    begins, ends = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if size is None and stride > 1:
            raise step.unsupported(f"auto_pad {how} with stride {stride} over a size that is not known")
        steps = 0 if size is None else (-(-size // stride) - 1) * stride - size + 1
        total = max(0, steps + (width - 1) * dilation)
        small, large = total // 2, total - total // 2
        begins.append(large if how == "SAME_LOWER" else small)
        ends.append(small if how == "SAME_LOWER" else large)
    return begins + ends


def torch_pads(pads: list[int]) -> list[int]:
    """ONNX's order of pads to that of `torch.nn.functional.pad`: last dimension first, beginning and end."""
    half = len(pads) // 2
    return [size for axis in reversed(range(half)) for size in (pads[axis], pads[half + axis])]


def _convolution(step: Step) -> fx.Node:
    weight = step.demand(1, "weight")
    rank = weight.ndim - 2
    strides, dilations = step.attribute("strides", [1] * rank), step.attribute("dilations", [1] * rank)
    pads = pads_of(step, list(weight.shape[2:]), strides, dilations)
    x: fx.Node = step.tensor(0)
    even = pads[:rank] == pads[rank:]
    if not even:
        x = step.call(functional.pad, x, torch_pads(pads))
    groups = step.attribute("group", 1)
    module = _CONVOLUTIONS[rank](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=tuple(strides),
        padding=tuple(pads[:rank]) if even else 0,
        dilation=tuple(dilations),
        groups=groups,
        bias=step.has(2),
    )
    return step.module(_with_weights(step, module, weight), x)


def _with_weights(step: Step, module: Any, weight: np.ndarray[Any, Any]) -> nn.Module:
    module.weight = parameter(weight)
    if step.has(2):
        module.bias = parameter(step.demand(2, "bias"))
    return module


def _transposed(step: Step) -> fx.Node:
    weight = step.demand(1, "weight")
    rank = weight.ndim - 2
    strides, dilations = step.attribute("strides", [1] * rank), step.attribute("dilations", [1] * rank)
    more = step.attribute("output_padding", [0] * rank)
    pads = step.attribute("pads", [0] * 2 * rank)
    if step.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or step.attribute("output_shape"):
        raise step.unsupported("its padding follows from a wanted output shape")
    groups = step.attribute("group", 1)
    # torch pads both ends alike; what ONNX cuts less at the end is more output there, what it cuts more is cut after.
    common = [min(begin, end) for begin, end in zip(pads[:rank], pads[rank:], strict=True)]
    module = _TRANSPOSED[rank](
        weight.shape[0],
        weight.shape[1] * groups,
        tuple(weight.shape[2:]),
        stride=tuple(strides),
        padding=tuple(common),
        output_padding=tuple(more),
        dilation=tuple(dilations),
        groups=groups,
        bias=step.has(2),
    )
    x = step.module(_with_weights(step, module, weight), step.tensor(0))
    cuts = [low - size for low, size in zip(common * 2, pads, strict=True)]
    return step.call(functional.pad, x, torch_pads(cuts)) if any(cuts) else x


def linear(weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None) -> nn.Linear:
    """A layer of a weight [outputs, inputs] and a bias [outputs]."""
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    module.weight = parameter(weight)
    if bias is not None:
        module.bias = parameter(bias)
    return module


def _gemm(step: Step) -> fx.Node:
    weight, bias = step.constant(1), step.constant(2)
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    x = step.tensor(0)
    if step.attribute("transA", 0):
        x = step.call(torch.t, x)
    outputs = 0 if weight is None else weight.shape[0 if step.attribute("transB", 0) else 1]
    simple = not step.has(2) or (bias is not None and (bias.size == 1 or bias.shape[-1:] == (outputs,) == (bias.size,)))
    if weight is not None and simple:
        turned = weight if step.attribute("transB", 0) else weight.T
        row = None if bias is None else np.broadcast_to(bias.reshape(-1) * np.float32(beta), (outputs,))
        scaled = turned if alpha == 1.0 else turned * np.float32(alpha)
        return step.module(linear(scaled, None if row is None else row.astype(weight.dtype)), x)
    other = step.tensor(1)
    y = step.call(torch.matmul, x, step.call(torch.t, other) if step.attribute("transB", 0) else other)
    y = y if alpha == 1.0 else step.call(torch.mul, y, alpha)
    if not step.has(2):
        return y
    addend = step.tensor(2)
    return step.call(torch.add, y, addend if beta == 1.0 else step.call(torch.mul, addend, beta))


def _matmul(step: Step) -> fx.Node:
    weight = step.constant(1)
    if weight is None or weight.ndim != 2 or step.constant(0) is not None:
        return step.call(torch.matmul, step.tensor(0), step.tensor(1))
    return step.module(linear(weight.T, _bias_after(step, weight.shape[1])), step.tensor(0))


def _bias_after(step: Step, outputs: int) -> np.ndarray[Any, Any] | None:
    """The constant row that the next node adds, which is then taken in."""
    name = step.node.output[0]
    add = step.builder.only_reader(name, "Add")
    if add is None:
        return None
    other = add.input[1] if add.input[0] == name else add.input[0]
    bias = step.builder.constants.get(other)
    rank = step.rank(0)
    if bias is None or bias.shape[-1:] != (outputs,) or bias.size != outputs or (rank and bias.ndim > rank):
        return None
    step.take_in(add)
    row: np.ndarray[Any, Any] = bias.reshape(-1)
    return row


def _batch_norm(step: Step) -> fx.Node:
    if len([name for name in step.node.output if name]) > 1:
        raise step.unsupported("it is in training mode")
    scale, shift, mean, variance = (
        step.demand(index, what) for index, what in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    kind = _BATCH_NORMS[step.rank(0) or 4]
    module = kind(len(scale), eps=step.attribute("epsilon", 1e-5), momentum=1 - step.attribute("momentum", 0.9))
    module.weight, module.bias = parameter(scale), parameter(shift)
    module.running_mean, module.running_var = (parameter(value).data for value in (mean, variance))
    return step.module(module, step.tensor(0))


def _layer_norm(step: Step) -> fx.Node:
    scale, axis = step.demand(1, "scale"), step.attribute("axis", -1)
    rank = step.rank(0)
    dimensions = -axis if axis < 0 else (rank or axis + scale.ndim) - axis
    shape = (step.shape(0) or ())[-dimensions:]
    if scale.ndim != dimensions and None not in shape and len(shape) == dimensions:
        scale = np.broadcast_to(scale, [int(size or 0) for size in shape])
    module = nn.LayerNorm(scale.shape, eps=step.attribute("epsilon", 1e-5), bias=step.has(2))
    module.weight = parameter(scale)
    if step.has(2):
        module.bias = parameter(np.broadcast_to(step.demand(2, "bias"), scale.shape))
    return step.module(module, step.tensor(0))


def _instance_norm(step: Step) -> fx.Node:
    scale, shift = step.demand(1, "scale"), step.demand(2, "bias")
    module = _INSTANCE_NORMS[step.rank(0) or 4](len(scale), eps=step.attribute("epsilon", 1e-5), affine=True)
    module.weight, module.bias = parameter(scale), parameter(shift)
    return step.module(module, step.tensor(0))


def _group_norm(step: Step) -> fx.Node:
    scale, shift, groups = step.demand(1, "scale"), step.demand(2, "bias"), step.attribute("num_groups")
    if step.opset < 21:  # one number a group, before each channel got its own
        channels = (step.shape(0) or (None, None))[1]
        if channels is None:
            raise step.unsupported("the number of channels is not known")
        scale, shift = (np.repeat(value, channels // groups) for value in (scale, shift))
    module = nn.GroupNorm(groups, len(scale), eps=step.attribute("epsilon", 1e-5))
    module.weight, module.bias = parameter(scale), parameter(shift)
    return step.module(module, step.tensor(0))


def _prelu(step: Step) -> fx.Node:
    slope = step.constant(1)
    if slope is not None and (slope.size == 1 or slope.shape[0] == slope.size):
        rank = step.rank(0)
        if slope.size == 1 or rank is None or slope.ndim == rank - 1:
            module = nn.PReLU(slope.size)
            module.weight = parameter(slope.reshape(-1))
            return step.module(module, step.tensor(0))
    x = step.tensor(0)
    return step.call(torch.where, step.call(torch.gt, x, 0), x, step.call(torch.mul, x, step.tensor(1)))


LAYERS: dict[str, Translation] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "PRelu": _prelu,
}
