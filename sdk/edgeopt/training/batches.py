"""Which samples a step sees: the order of an epoch and the sizes of its batches, all from the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeopt.training.options import TrainingOptions
from edgeopt.training.schedules import decay, warm

Indices = np.ndarray[Any, np.dtype[np.int64]]
_ORDER, _SIZES, _SPLIT = 1, 2, 3


def split(count: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Positions for training and for validation, drawn by seed; none for validation where there are hardly any.

    Args:
        count: Samples there are.
        share: Of them, for validation.
        seed: Of the draw.
    """
    held = round(count * share)
    order = np.random.default_rng([_SPLIT, seed]).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


@dataclass(frozen=True)
class Batches:
    """The plan of a training.

    Attributes:
        count: Training samples.
        options: Of the training.
        seed: Of orders and random sizes.
        least: Samples that no batch has less of, unless there are no more: batch normalisation needs two.
    """

    count: int
    options: TrainingOptions
    seed: int
    least: int = 2

    def sizes(self, epoch: int) -> list[int]:
        """Sizes of an epoch's batches; a rest that is too small joins the batch before it."""
        draw = np.random.default_rng([_SIZES, self.seed, epoch])
        sizes: list[int] = []
        left = self.count
        while left:
            size = min(self._size(self.share(epoch, self.count - left), draw), left)
            if left - size < self.least:
                size = left
            sizes.append(size)
            left -= size
        return sizes

    def steps(self) -> int:
        """Steps of the whole training."""
        if self.options.batch == "fixed":
            return self.options.epochs * len(self.sizes(0))
        return sum(len(self.sizes(epoch)) for epoch in range(self.options.epochs))

    def epoch(self, epoch: int) -> Iterator[Indices]:
        """Positions of each batch of an epoch."""
        order = np.random.default_rng([_ORDER, self.seed, epoch]).permutation(self.count)
        yield from np.split(order, np.cumsum(self.sizes(epoch))[:-1])

    def share(self, epoch: int, seen: int) -> float:
        """How much of the training is done, 0 to 1, by samples."""
        return (epoch + seen / self.count) / self.options.epochs

    def learning_rate(self, share: float, size: int) -> float:
        """The rate of a step.

        With batches tied to it, the rate falls only as far as the batch could not grow: rate / batch, the noise of
        stochastic gradients (Smith et al., 2018, eq. 2), is the same either way.
        """
        options = self.options
        factor = decay(options.schedule, options.warmup, share) * warm(options.warmup, share)
        if options.batch == "tied":
            factor = min(factor * max(size / options.batch_size, 1.0), 1.0)
        return options.learning_rate * factor

    def _size(self, share: float, draw: np.random.Generator) -> int:
        size = self.options.batch_size
        if self.options.batch == "random":
            return int(draw.integers(max(size // 2, 1), 2 * size, endpoint=True))
        if self.options.batch == "tied":
            most = max(size, self.count // 10)
            factor = decay(self.options.schedule, self.options.warmup, share)
            return most if factor * most <= size else round(size / factor)
        return size
