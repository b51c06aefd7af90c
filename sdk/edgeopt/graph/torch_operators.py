"""Translates ONNX nodes that work element by element or reduce: activations, arithmetic, comparison, sums."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, fx, nn

from edgeopt.graph import torch_shapes
from edgeopt.graph.torch_builder import Host
from edgeopt.graph.torch_step import Step, Translation

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


def _activation(make: Callable[[Step], nn.Module]) -> Translation:
    return lambda step: step.module(make(step), step.tensor(0))


def _plain(kind: Callable[[], nn.Module]) -> Translation:
    return lambda step: step.module(kind(), step.tensor(0))


def _clip(step: Step) -> fx.Node:
    limits = [step.attribute(name) for name in ("min", "max")]
    for index in (1, 2):
        if step.has(index):
            constant = step.constant(index)
            limits[index - 1] = step.tensor(index) if constant is None else constant.item()
    if any(isinstance(limit, fx.Node) for limit in limits):
        return step.call(torch.clamp, step.tensor(0), *limits)
    if limits == [0.0, 6.0]:
        return step.module(nn.ReLU6(), step.tensor(0))
    if None in limits:
        return step.call(torch.clamp, step.tensor(0), *limits)
    return step.module(nn.Hardtanh(*limits), step.tensor(0))


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """max(0, min(1, alpha * x + beta))."""
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def _hard_sigmoid(step: Step) -> fx.Node:
    alpha, beta = step.attribute("alpha", 0.2), step.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return step.module(nn.Hardsigmoid(), step.tensor(0))
    return step.call(hard_sigmoid, step.tensor(0), alpha, beta)


def _elu(step: Step) -> nn.Module:
    return nn.ELU(step.attribute("alpha", 1.0))


def soft_over_rest(x: Tensor, axis: int, logarithm: bool) -> Tensor:
    """Softmax as it was before opset 13: over all dimensions from `axis` on."""
    rest = x.flatten(axis)
    return (torch.log_softmax(rest, -1) if logarithm else torch.softmax(rest, -1)).reshape(x.shape)


def _softmax(kind: type[nn.Softmax] | type[nn.LogSoftmax]) -> Translation:
    def translate(step: Step) -> fx.Node:
        axis = step.attribute("axis", -1 if step.opset >= 13 else 1)
        rank = step.rank(0)
        if step.opset < 13 and (rank is None or axis % rank != rank - 1):
            return step.call(soft_over_rest, step.tensor(0), axis, kind is nn.LogSoftmax)
        return step.module(kind(axis), step.tensor(0))

    return translate


def _sizes_only(step: Step) -> bool:
    """Whether all operands are sizes or constants that go with them."""
    flat = all(step.is_host(i) or ((c := step.constant(i)) is not None and c.ndim <= 1) for i in step.inputs)
    return flat and any(step.is_host(i) for i in step.inputs)


def _elementwise(function: Callable[..., Any]) -> Translation:
    """A binary operator (or one of more operands, one after the other) on tensors, or on sizes."""

    def translate(step: Step) -> fx.Node | Host:
        kind = step.node.op_type
        if _sizes_only(step):
            return Host(step.call(torch_shapes.compute, kind, *(step.host(index) for index in step.inputs)))
        ranks = [step.rank(index) for index in step.inputs]
        operands = [
            step.number_or_tensor(index, max((r or 0 for i, r in enumerate(ranks) if i != index), default=0))
            for index in step.inputs
        ]
        if not any(isinstance(operand, fx.Node) for operand in operands):
            operands[0] = step.tensor(0)
        result = operands[0]
        for operand in operands[1:]:
            result = step.call(function, result, operand)
        return result if len(operands) > 1 else step.call(torch.clone, step.tensor(0))

    return translate


def _unary(function: Callable[..., Any]) -> Translation:
    def translate(step: Step) -> fx.Node | Host:
        if step.is_host(0) and step.node.op_type in torch_shapes.ARITHMETIC:
            return Host(step.call(torch_shapes.compute, step.node.op_type, step.host(0)))
        return step.call(function, step.tensor(0))

    return translate


def divide(a: Any, b: Any) -> Any:
    """ONNX's division: integers are truncated."""
    whole = all(isinstance(v, int) or (isinstance(v, Tensor) and not v.is_floating_point()) for v in (a, b))
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def largest(a: Any, b: Any) -> Tensor:
    """The larger of two, one of which may be a number."""
    if not isinstance(a, Tensor):
        a, b = b, a
    return torch.maximum(a, b) if isinstance(b, Tensor) else torch.clamp(a, min=b)


def smallest(a: Any, b: Any) -> Tensor:
    """The smaller of two, one of which may be a number."""
    if not isinstance(a, Tensor):
        a, b = b, a
    return torch.minimum(a, b) if isinstance(b, Tensor) else torch.clamp(a, max=b)


def _division(step: Step) -> fx.Node | Host:
    shape = step.constant(1)
    real = shape is not None and shape.dtype.kind == "f"
    result: fx.Node | Host = _elementwise(operator.truediv if real else divide)(step)
    return result


def _where(step: Step) -> fx.Node | Host:
    if _sizes_only(step):
        return Host(step.call(torch_shapes.compute, "Where", *(step.host(index) for index in step.inputs)))
    return step.call(torch.where, *(step.tensor(index) for index in step.inputs))


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers as another type."""
    return x.to(dtype)


def _cast(step: Step) -> fx.Node | Host:
    dtype = DTYPES.get(step.attribute("to"))
    if dtype is None:
        raise step.unsupported(f"casts to {TensorProto.DataType.Name(step.attribute('to'))}")
    if step.is_host(0):
        real = torch_shapes.to_real if dtype.is_floating_point else torch_shapes.to_whole
        return Host(step.call(torch_shapes.to_truth if dtype == torch.bool else real, step.host(0)))
    return step.tensor(0) if step.has_type(0, step.attribute("to")) else step.call(cast, step.tensor(0), dtype)


def _reduce(function: Callable[..., Any]) -> Translation:
    def translate(step: Step) -> fx.Node | Host:
        if step.is_host(0):
            return Host(step.call(torch_shapes.product, step.host(0)))
        axes, keep = step.axes(1), bool(step.attribute("keepdims", 1))
        if not axes and step.attribute("noop_with_empty_axes", 0):
            return step.call(torch.clone, step.tensor(0))
        if not axes:
            rank = step.rank(0)
            if rank is None:
                raise step.unsupported("it reduces all axes of a tensor whose rank is not known")
            axes = list(range(rank))
        return step.call(function, step.tensor(0), axes, keep)

    return translate


def l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Sum of absolute values."""
    return torch.sum(torch.abs(x), axes, keep)


def l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Root of the sum of squares."""
    return torch.linalg.vector_norm(x, 2, axes, keep)


def sum_of_squares(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Sum of squares."""
    return torch.sum(x * x, axes, keep)


def product_over(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Product, one axis after the other."""
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keep)
    return x


def _argument(function: Callable[..., Any]) -> Translation:
    return lambda step: step.call(
        function, step.tensor(0), step.attribute("axis", 0), bool(step.attribute("keepdims", 1))
    )


def _identity(step: Step) -> fx.Node | Host:
    if step.is_host(0):
        return Host(step.host(0))
    x: fx.Node = step.tensor(0)
    return x


def _gelu(step: Step) -> nn.Module:
    return nn.GELU(step.attribute("approximate", "none"))


_LIKE_NAMED = (
    *("Sqrt", "Exp", "Log", "Neg", "Abs", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Erf"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh"),
)
"""Called in torch as in ONNX, small."""

OPERATORS: dict[str, Translation] = {
    "Relu": _plain(nn.ReLU),
    "Clip": _clip,
    "LeakyRelu": _activation(lambda step: nn.LeakyReLU(step.attribute("alpha", 0.01))),
    "Elu": _activation(_elu),
    "Celu": _activation(lambda step: nn.CELU(step.attribute("alpha", 1.0))),
    "Selu": _plain(nn.SELU),
    "Sigmoid": _plain(nn.Sigmoid),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(nn.Hardswish),
    "Tanh": _plain(nn.Tanh),
    "Softplus": _plain(nn.Softplus),
    "Softsign": _plain(nn.Softsign),
    "Mish": _plain(nn.Mish),
    "Gelu": _activation(_gelu),
    "Softmax": _softmax(nn.Softmax),
    "LogSoftmax": _softmax(nn.LogSoftmax),
    "Add": _elementwise(operator.add),
    "Sum": _elementwise(operator.add),
    "Sub": _elementwise(operator.sub),
    "Mul": _elementwise(operator.mul),
    "Div": _division,
    "Pow": _elementwise(operator.pow),
    "Mod": _elementwise(torch.remainder),
    "Min": _elementwise(smallest),
    "Max": _elementwise(largest),
    "Equal": _elementwise(operator.eq),
    "Greater": _elementwise(operator.gt),
    "Less": _elementwise(operator.lt),
    "GreaterOrEqual": _elementwise(operator.ge),
    "LessOrEqual": _elementwise(operator.le),
    "And": _elementwise(torch.logical_and),
    "Or": _elementwise(torch.logical_or),
    "Xor": _elementwise(torch.logical_xor),
    "Not": _unary(torch.logical_not),
    "Where": _where,
    "Cast": _cast,
    "Identity": _identity,
    "Dropout": _identity,
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(product_over),
    "ReduceL1": _reduce(l1),
    "ReduceL2": _reduce(l2),
    "ReduceSumSquare": _reduce(sum_of_squares),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "ArgMax": _argument(torch.argmax),
    "ArgMin": _argument(torch.argmin),
    **{kind: _unary(getattr(torch, kind.lower())) for kind in _LIKE_NAMED},
}
