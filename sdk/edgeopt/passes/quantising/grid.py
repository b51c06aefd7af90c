"""Grids that weights of 8, 4, 2 and 1 bits lie on: scale, codes, nearest values; what passes of low precision agree on.

A weight is ``code * scale``, one scale for each output channel, codes symmetric around zero (Krishnamoorthi: Quantizing
deep convolutional networks for efficient inference, 2018, §2.2 and §3.1.2):

* 8 bits: codes -127 to 127, or -64 to 64 where products would saturate (ONNX Runtime's ``reduce_range``);
* 4 bits: codes -7 to 7;
* 2 bits: codes -1, 0, 1 (Li, Zhang, Liu: Ternary Weight Networks, 2016, §2);
* 1 bit: codes -1, 1, the scale is the mean magnitude (Rastegari, Ordonez, Redmon, Farhadi: XNOR-Net, 2016, eq. 6).

Of each channel at least one code is the largest, so the scale can be read off the weights: ``max|w| / top_code``. That
is why a pass may write float weights that lie on a grid and a later one may store them without any loss, and why
2 bits are ternary rather than four levels: its codes are codes of 8 bits too (-127, 0, 127), and zeros stay zeros.

Plain NumPy; weights are float32 arrays of any shape, `axis` is that of the output channels (or several: a recurrent
weight has directions too), scales keep their rank ([1, ..., channels, ..., 1]) so that they broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Bits = Literal[8, 4, 2, 1]
Axis = int | tuple[int, ...]
Floats = NDArray[np.float32]

ALL_BITS: tuple[Bits, ...] = (1, 2, 4, 8)
TOLERANCE = 1e-4
"""How far off its grid a weight may lie, in steps: what float32 loses on the way through a file."""

_SHRINK = np.linspace(1.0, 0.5, 21)
_TERNARY_THRESHOLD = 0.7


@dataclass(frozen=True)
class Grid:
    """A weight as codes and scales.

    Attributes:
        bits: Of a code.
        codes: int8, the weight's shape.
        scale: float32, broadcasts over `codes`.
    """

    bits: Bits
    codes: NDArray[np.int8]
    scale: Floats

    @property
    def weight(self) -> Floats:
        """The float weight that this stands for."""
        return self.codes.astype(np.float32) * self.scale


def top_code(bits: Bits, *, reduced: bool = False) -> int:
    """The largest code; `reduced`: of 8 bits, where products must not saturate (`_base.saturates`)."""
    return 64 if reduced and bits == 8 else {8: 127, 4: 7, 2: 1, 1: 1}[bits]


def range_scale(weight: Floats, bits: Bits, axis: Axis, *, reduced: bool = False) -> Floats:
    """``max|w| / top_code`` of each channel, as ONNX Runtime's quantiser has it.

    Where a channel is all zero: 1, as there; at 1 bit, which has no zero among its codes: 0.
    """
    largest = np.abs(weight).max(axis=_others(weight, axis), keepdims=True).astype(np.float64)
    scale = (largest / top_code(bits, reduced=reduced)).astype(np.float32)
    return np.where(scale < np.finfo(np.float32).tiny, np.float32(bits != 1), scale)


def best_scale(weight: Floats, bits: Bits, axis: Axis, *, reduced: bool = False) -> Floats:
    """The scale of each channel at which rounding to the nearest code loses (about) the least squared error.

    8 bits: the range. 4 bits: the best of 21 shares of the range, 1 to 0.5. 2 bits: Li et al. 2016, eq. 6 (mean
    magnitude of what exceeds 0.7 times the mean magnitude). 1 bit: the mean magnitude, which is optimal.
    """
    if bits == 8:
        return range_scale(weight, bits, axis, reduced=reduced)
    others, magnitude = _others(weight, axis), np.abs(weight)
    mean = magnitude.mean(axis=others, keepdims=True)
    if bits == 4:
        return _searched(weight, axis)
    if bits == 2:
        kept = magnitude > _TERNARY_THRESHOLD * mean
        mean = (magnitude * kept).sum(axis=others, keepdims=True) / np.maximum(kept.sum(axis=others, keepdims=True), 1)
    return np.where(mean > 0, mean, bits != 1).astype(np.float32)


def codes_at(weight: Floats, scale: Floats, bits: Bits, *, reduced: bool = False) -> NDArray[np.int8]:
    """Nearest codes; values beyond the range take the last code. 1 bit: the sign, 1 for zero."""
    if bits == 1:
        return np.where(weight < 0, -1, 1).astype(np.int8)
    top = top_code(bits, reduced=reduced)
    codes: NDArray[np.int8] = np.clip(np.rint(weight / scale), -top, top).astype(np.int8)
    return codes


def nearest(weight: Floats, bits: Bits, axis: Axis, *, reduced: bool = False) -> Grid:
    """The weight rounded to the grid of least error, its scales such that they can be read off the result."""
    scale = best_scale(weight, bits, axis, reduced=reduced)
    return Grid(bits, codes_at(weight, scale, bits, reduced=reduced), scale)


def exact(weight: Floats, bits: Bits, axis: Axis, *, reduced: bool = False) -> Grid | None:
    """The grid that the weight lies on already, to within `TOLERANCE`; ``None`` where it does not."""
    scale = range_scale(weight, bits, axis, reduced=reduced)
    grid = Grid(bits, codes_at(weight, scale, bits, reduced=reduced), scale)
    return grid if bool(np.all(np.abs(grid.weight - weight) <= TOLERANCE * scale)) else None


def smallest(weight: Floats, axis: Axis) -> Grid | None:
    """The smallest grid that the weight lies on already, ``None`` where it lies on none."""
    grids = (
        exact(weight, bits, axis, reduced=reduced) for bits in ALL_BITS for reduced in (False, True)[: 1 + bits // 8]
    )
    return next((grid for grid in grids if grid is not None), None)


def _searched(weight: Floats, axis: Axis) -> Floats:
    whole, others = range_scale(weight, 4, axis), _others(weight, axis)
    best, least = whole, np.full(whole.shape, np.inf)
    for share in _SHRINK:
        scale = (whole * share).astype(np.float32)
        error = ((Grid(4, codes_at(weight, scale, 4), scale).weight - weight) ** 2).sum(axis=others, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def _others(weight: Any, axis: Axis) -> tuple[int, ...]:
    kept = {one % weight.ndim for one in ((axis,) if isinstance(axis, int) else axis)}
    return tuple(index for index in range(weight.ndim) if index not in kept)
