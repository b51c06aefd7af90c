"""When unstructured pruning sets what to zero: at once, or along a training."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

from edgeopt.passes.pruning.sparsity import Importances, Masked, Rule, chosen, from_gradients, magnitudes
from edgeopt.training.losses import supervised
from edgeopt.training.samples import Samples


class Pace(Protocol):
    """What of a pass's options counts here; see `prune_weights.Options`."""

    @property
    def importance(self) -> Literal["magnitude", "gradient", "taylor"]:
        """What tells the least important weights."""

    @property
    def rule(self) -> Rule:
        """Where they are compared, and in which pattern they go."""

    @property
    def ramp(self) -> float:
        """Share of the training along which more and more go."""

    @property
    def updates(self) -> int:
        """How often the choice is made anew on the way."""

    @property
    def gradient_samples(self) -> int:
        """Most samples that gradients are taken from."""

    @property
    def batch_size(self) -> int:
        """Samples that gradients are taken of at once."""


class Choice:
    """Chooses what goes.

    Args:
        masked: The network.
        share: That goes in the end.
        options: How.
        samples: For gradients and training; ``None`` where magnitudes alone are wanted.
        user_loss: The user's loss on labels, if any.
    """

    def __init__(self, masked: Masked, share: float, options: Pace, samples: Samples | None, user_loss: str) -> None:
        self._masked, self._share, self._options, self.samples = masked, share, options, samples
        self._loss = supervised(user_loss) if samples is not None and samples.labelled else None
        self._first = masked.zeros

    def after_step(self, _network: Any, step: int, steps: int) -> None:
        """Go on with pruning where it is time, and put the zeros back (`engine.AfterStep`)."""
        end = max(1, math.ceil(steps * self._options.ramp))
        every = max(1, end // self._options.updates)
        if step <= end and (step % every == 0 or step == end):
            self.prune(zeros_at(step / end, self._first, self._share))
        else:
            self._masked.apply_masks()

    def prune(self, share: float) -> None:
        """Set the least important share to zero."""
        masked = self._masked
        masked.apply_masks()
        masked.take(chosen(masked.network, masked.weights, self._importances(), share, self._options.rule))
        masked.apply_masks()

    def _importances(self) -> Importances:
        masked, kind, samples = self._masked, self._options.importance, self.samples
        if kind == "magnitude" or samples is None:
            return magnitudes(masked.network, masked.weights)
        count, size = min(len(samples), self._options.gradient_samples), self._options.batch_size
        batches = [samples.batch(range(at, min(at + size, count))) for at in range(0, count, size)]
        training = masked.network.training
        masked.network.eval()
        found = from_gradients(masked.network, masked.weights, batches, self._loss, kind)
        masked.network.train(training)
        return found


def zeros_at(progress: float, first: float, last: float) -> float:
    """Share of zeros after `progress` (0 to 1) of the way from `first` to `last`: many at first, few in the end.

    Zhu, Gupta: To prune, or not to prune, 2017, eq. 1.
    """
    return last + (first - last) * (1 - progress) ** 3
