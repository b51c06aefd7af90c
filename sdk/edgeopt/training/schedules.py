"""How the learning rate changes over a training: a factor of its first value for each share of the way."""

from __future__ import annotations

import math
from collections.abc import Callable

_LAST = 0.01
"""What ``exponential`` ends with."""


def _fixed(_: float) -> float:
    return 1.0


def _step(way: float) -> float:
    """A tenth at a half and again at three quarters (He, Zhang, Ren, Sun: Deep Residual Learning, 2016, §4.2)."""
    return 1.0 if way < 0.5 else 0.1 if way < 0.75 else 0.01


def _linear(way: float) -> float:
    return 1.0 - way


def _exponential(way: float) -> float:
    return math.pow(_LAST, way)


def _cosine(way: float) -> float:
    """Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, eq. 5, one period."""
    return 0.5 * (1.0 + math.cos(math.pi * way))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "fixed": _fixed,
    "step": _step,
    "linear": _linear,
    "exponential": _exponential,
    "cosine": _cosine,
}


def decay(schedule: str, warmup: float, share: float) -> float:
    """The schedule's factor, 0 to 1, at a share of the training; 1 during warm-up.

    Args:
        schedule: A key of `SCHEDULES`.
        warmup: Share of the training that warms up, 0 to below 1.
        share: Samples seen by samples that will be seen, 0 to 1.
    """
    way = max(0.0, share - warmup) / (1.0 - warmup)
    return SCHEDULES[schedule](min(way, 1.0))


def warm(warmup: float, share: float) -> float:
    """The warm-up's factor, rising linearly to 1 (Goyal et al.: Accurate, Large Minibatch SGD, 2017, §2.2).

    Never zero: a first step that changes nothing wastes a batch.
    """
    return 1.0 if share >= warmup else max(share / warmup, 0.01)
