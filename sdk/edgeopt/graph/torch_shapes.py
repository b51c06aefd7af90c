"""Arithmetic on sizes at run time: plain numbers and flat lists of them, so that a traced network keeps its batch free.

What ONNX computes with small integer tensors after Shape happens here with Python numbers. While a network is traced
the numbers are scalar tensors, which the operators below take alike.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Number = Any
"""int, float or bool; a scalar tensor while tracing."""

Sizes = Any
"""A `Number`, or a flat list of them."""


def shape_of(x: Tensor, start: int = 0, end: int | None = None) -> list[Number]:
    """Sizes of `x` from dimension `start` up to `end`."""
    return list(x.shape)[start:end]


def pick(values: list[Number], index: Any) -> Sizes:
    """One element, or several as a list."""
    return [values[i] for i in index] if isinstance(index, (list, tuple)) else values[index]


def cut(values: list[Number], start: int, end: int, step: int = 1) -> list[Number]:
    """A slice as ONNX counts it: `end` may lie far outside."""
    stop = None if step < 0 and end < -len(values) else end
    return values[start:stop:step]


def join(*parts: Sizes) -> list[Number]:
    """One list of lists."""
    return [value for part in parts for value in as_list(part)]


def as_list(value: Sizes) -> list[Number]:
    """A list of one where it is a number."""
    return list(value) if isinstance(value, (list, tuple, torch.Size)) else [value]


def as_number(value: Sizes) -> Number:
    """The only element of a list."""
    return value[0] if isinstance(value, (list, tuple)) else value


def _each(function: Callable[..., Number], *values: Sizes) -> Sizes:
    """Apply to numbers, or to lists with numbers and lists of one spread over them."""
    lists = [as_list(value) for value in values]
    if all(not isinstance(value, (list, tuple)) for value in values):
        return function(*(part[0] for part in lists))
    length = max(len(part) for part in lists)
    return [function(*row) for row in zip(*(part * length if len(part) == 1 else part for part in lists), strict=True)]


def _divide(a: Number, b: Number) -> Number:
    real = any(isinstance(v, float) or (isinstance(v, Tensor) and v.is_floating_point()) for v in (a, b))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.div(torch.as_tensor(a), torch.as_tensor(b), rounding_mode=None if real else "trunc")
    return a / b if real else a // b


def _whole(a: Number) -> Number:
    if isinstance(a, Tensor):
        return a if a.dtype == torch.int64 else a.to(torch.int64)
    return int(a) if isinstance(a, (float, bool)) else a


def _real(a: Number) -> Number:
    if isinstance(a, Tensor):
        return a if a.is_floating_point() else a.to(torch.float32)
    return a * 1.0


def _truth(a: Number) -> Number:
    if isinstance(a, Tensor):
        return a if a.dtype == torch.bool else a.to(torch.bool)
    return bool(a)


def _of_tensor(name: str, otherwise: Callable[[Number], Number]) -> Callable[[Number], Number]:
    return lambda a: getattr(torch, name)(a) if isinstance(a, Tensor) else otherwise(a)


def _choose(condition: Number, a: Number, b: Number) -> Number:
    if isinstance(condition, Tensor):
        return torch.where(condition, torch.as_tensor(a), torch.as_tensor(b))
    return a if condition else b


def _extreme(name: str, otherwise: Callable[..., Number]) -> Callable[[Number, Number], Number]:
    def function(a: Number, b: Number) -> Number:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return getattr(torch, name)(torch.as_tensor(a), torch.as_tensor(b))
        return otherwise(a, b)

    return function


ARITHMETIC: dict[str, Callable[..., Number]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": _divide,
    "Mod": operator.mod,
    "Pow": operator.pow,
    "Neg": operator.neg,
    "Abs": operator.abs,
    "Min": _extreme("minimum", min),
    "Max": _extreme("maximum", max),
    "Equal": operator.eq,
    "Greater": operator.gt,
    "Less": operator.lt,
    "GreaterOrEqual": operator.ge,
    "LessOrEqual": operator.le,
    "And": lambda a, b: a & b,
    "Or": lambda a, b: a | b,
    "Not": lambda a: torch.logical_not(a) if isinstance(a, Tensor) else not a,
    "Where": _choose,
    "Floor": _of_tensor("floor", lambda a: math.floor(a) * 1.0),
    "Ceil": _of_tensor("ceil", lambda a: math.ceil(a) * 1.0),
    "Sqrt": _of_tensor("sqrt", math.sqrt),
    "Reciprocal": _of_tensor("reciprocal", lambda a: 1.0 / a),
}
"""Operators that sizes go through."""


def compute(kind: str, *values: Sizes) -> Sizes:
    """One operator of `ARITHMETIC` on numbers or lists."""
    return _each(ARITHMETIC[kind], *values)


def to_whole(values: Sizes) -> Sizes:
    """Integers of whatever it is, truncated."""
    return _each(_whole, values)


def to_real(values: Sizes) -> Sizes:
    """Floating-point numbers of whatever it is."""
    return _each(_real, values)


def to_truth(values: Sizes) -> Sizes:
    """Whether each is other than zero."""
    return _each(_truth, values)


def product(values: Sizes) -> Number:
    """All of them multiplied."""
    result = 1
    for value in as_list(values):
        result = result * value
    return result


def fill(count: Sizes, value: float) -> list[Number]:
    """A list of `count` times `value`; `count` does not depend on the data."""
    return [value] * int(as_number(count))


def to_tensor(values: Sizes) -> Tensor:
    """Sizes as a tensor of rank 0 or 1: int64, or float32 where they were made real."""
    parts = [torch.as_tensor(value) for value in as_list(values)]
    real = any(part.is_floating_point() for part in parts)
    parts = [part.to(torch.float32 if real else torch.int64) for part in parts]
    return torch.stack(parts) if isinstance(values, (list, tuple)) else parts[0]


def from_tensor(x: Tensor) -> Sizes:
    """A small integer tensor as numbers, which then depend on the data of the run."""
    return [x[i] for i in range(x.shape[0])] if x.dim() else x
