"""Learns for each weight of one layer whether it is rounded up or down, so that the layer's output changes least.

Source: Nagel, Amjad, van Baalen, Louizos, Blankevoort: Up or Down? Adaptive Rounding for Post-Training Quantization,
2020, equations 21 to 25. Plain NumPy: the gradient is three products, and Adam four lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeopt.passes.graphs.layers import Array
from edgeopt.passes.quantising.grid import Floats

_ZETA, _GAMMA = 1.1, -0.1
"""The stretch of the rectified sigmoid (eq. 23)."""

_BETA_START, _BETA_END, _WARM_UP = 20.0, 2.0, 0.2
"""Annealing of eq. 24's exponent; in the first share of the steps the regulariser is off."""

_WEIGHT = 1.0
"""Of the regulariser, its mean over a channel's weights; the channel's error counts in units of the nearest's."""

_DECAY, _LEARNING_RATE, _TINY = (0.9, 0.999), 3e-2, 1e-8
_BATCH = 256
_HALF, _LEAST = 0.5, 1e-12


@dataclass(frozen=True)
class Task:
    """What a layer should give.

    Attributes:
        inputs: [rows, groups, K], what its weights multiply, rounding of the layers before included.
        outputs: [rows, O], what the float network gives there, less the bias.
        rectified: Whether a ReLU follows, behind which the error is measured (eq. 25).
        bias: [O], needed behind the ReLU.
    """

    inputs: Floats
    outputs: Floats
    rectified: bool
    bias: Floats

    def part(self, rows: Array | slice) -> Task:
        """The same with some rows."""
        return Task(self.inputs[rows], self.outputs[rows], self.rectified, self.bias)

    def errors(self, weight: Floats) -> Floats:
        """Mean squared error of each output channel with weights [groups, O / groups, K], [O]."""
        return np.asarray((self._miss(weight)[0] ** 2).mean(axis=0))

    def shift(self, weight: Floats) -> Floats:
        """Mean error of each output channel before the ReLU, [O]: what the bias can take back."""
        return np.asarray(replace(self, rectified=False)._miss(weight)[0].mean(axis=0))

    def slope(self, weight: Floats) -> Floats:
        """Derivative of `errors` by the weights, [groups, O / groups, K]."""
        miss, passed = self._miss(weight)
        rows, groups = len(miss), self.inputs.shape[1]
        back = (miss * passed).reshape(rows, groups, -1).transpose(1, 2, 0)
        return np.asarray(np.matmul(back, self.inputs.transpose(1, 0, 2)) * np.float32(2 / rows))

    def _miss(self, weight: Floats) -> tuple[Floats, Array]:
        """Output less what it should be, [rows, O], and where the output depends on the weights."""
        given = np.matmul(self.inputs.transpose(1, 0, 2), weight.transpose(0, 2, 1))
        given = given.transpose(1, 0, 2).reshape(self.outputs.shape)
        if not self.rectified:
            return given - self.outputs, np.ones(1, dtype=bool)
        given = given + self.bias
        return np.maximum(given, 0) - np.maximum(self.outputs + self.bias, 0), given > 0


def learn(
    task: Task, weight: Floats, scale: Floats, pinned: Array, *, top: int, steps: int, rng: np.random.Generator
) -> Floats:
    """Round weights up or down (eq. 25, with the error of each channel in units of that of rounding to the nearest).

    Args:
        task: What is to be kept, its rows in no order.
        weight: [groups, O / groups, K].
        scale: The grid's steps, [groups, O / groups, 1].
        pinned: Which weights are rounded to the nearest in any case, so that the scale can be read off the result.
        top: The largest code.
        steps: Steps of Adam.
        rng: Draws where each step's rows begin.

    Returns:
        Weights on the grid.
    """
    share = weight / scale
    low = np.clip(np.floor(share), -top, top - 1)
    rest = np.clip(share - low, 0.0, 1.0).astype(np.float32)
    plain = low + (rest >= _HALF)
    unit = scale / np.maximum(task.errors(plain * scale).reshape(scale.shape), _LEAST)
    adam = _Adam(rest)
    for step in range(1, steps + 1):
        sigmoid = 1.0 / (1.0 + np.exp(-adam.value))
        soft = np.clip(sigmoid * (_ZETA - _GAMMA) + _GAMMA, 0.0, 1.0)
        start = int(rng.integers(0, max(0, len(task.outputs) - _BATCH) + 1))
        part = task.part(slice(start, start + _BATCH))
        slope = part.slope((low + soft) * scale) * unit + _regulariser_slope(soft, step / steps) / weight.shape[-1]
        adam.step(slope * sigmoid * (1.0 - sigmoid) * ((soft > 0) & (soft < 1)))
    codes = np.where(pinned, plain, low + (adam.value >= 0))
    return np.asarray(codes * scale, dtype=np.float32)


class _Adam:
    """Kingma, Ba: Adam, 2015, algorithm 1, on the rounding variables, which start where nothing is rounded (eq. 23)."""

    def __init__(self, rest: Floats) -> None:
        at = (rest - _GAMMA) / (_ZETA - _GAMMA)
        self.value = np.log(at / (1.0 - at))
        self._mean, self._square = np.zeros_like(self.value), np.zeros_like(self.value)
        self._count = 0

    def step(self, slope: Floats) -> None:
        self._count += 1
        self._mean += (1 - _DECAY[0]) * (slope - self._mean)
        self._square += (1 - _DECAY[1]) * (slope**2 - self._square)
        mean, square = (
            moment / (1 - decay**self._count) for moment, decay in zip((self._mean, self._square), _DECAY, strict=True)
        )
        self.value -= _LEARNING_RATE * mean / (np.sqrt(square) + _TINY)


def _regulariser_slope(soft: Floats, progress: float) -> Floats:
    """Derivative of eq. 24, 1 - |2h - 1|^β; 0 in the first steps, then with β falling along a cosine."""
    if progress <= _WARM_UP:
        return np.zeros_like(soft)
    done = (progress - _WARM_UP) / (1 - _WARM_UP)
    beta = _BETA_END + 0.5 * (_BETA_START - _BETA_END) * (1 + np.cos(np.pi * done))
    off = 2 * soft - 1
    return np.asarray(-_WEIGHT * 2 * beta * np.sign(off) * np.abs(off) ** (beta - 1), dtype=np.float32)
