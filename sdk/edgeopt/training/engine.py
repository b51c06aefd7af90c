"""Trains a network: the entrance that passes use, and the report that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from edgeopt.training.loop import AfterStep, Loop
from edgeopt.training.losses import Loss
from edgeopt.training.options import TrainingOptions
from edgeopt.training.parallel import together
from edgeopt.training.samples import Samples


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        epochs: Whole epochs.
        steps: Steps.
        losses: Mean training loss of each epoch.
        validation: Validation loss before the training, then after each epoch; empty without validation samples.
        best_epoch: Epochs after which the weights that were kept were reached.
        seconds: Time spent, before interruptions included.
        notes: Sentences for the user.
    """

    epochs: int
    steps: int
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    best_epoch: int
    seconds: float
    notes: tuple[str, ...] = ()


def train(
    network: nn.Module,
    samples: Samples,
    loss: Loss,
    options: TrainingOptions,
    *,
    seed: int,
    checkpoint: Path | None = None,
    after_step: AfterStep | None = None,
) -> TrainingReport:
    """Train a network in place; it ends in evaluation mode with the best weights by validation loss.

    Same arguments and number of threads, same weights, whether it was interrupted or not, unless `max_seconds`
    ended it.

    Args:
        network: Parameters that do not require gradients stay; a normalisation whose parameters are all frozen keeps
            its statistics too.
        samples: Fed to `loss`, with labels where there are any.
        loss: See `losses.Loss`.
        options: How.
        seed: Of split, order, and torch's random numbers, which are left as they were found.
        checkpoint: File to go on from and to write, if any.
        after_step: Called after each step. What it must remember after an interruption belongs into the network's
            buffers; all else it has to derive from the step.

    Raises:
        PassError: The loss became NaN or infinite, memory ran out, nothing is trainable, or the network takes one batch
            size only. The network then holds the best weights so far.
        DataError: Samples that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        loop = Loop(network, samples, loss, options, seed)
        loop.resume(checkpoint)
        processes = max(min(options.processes, options.batch_size // 2, len(loop.samples) // 2), 1)
        note = together(processes, lambda team: loop.run(team, checkpoint, after_step))
    return _report(loop, note)


def _report(loop: Loop, *notes: str) -> TrainingReport:
    at = loop.at
    return TrainingReport(
        epochs=at.epoch,
        steps=at.step,
        losses=tuple(at.losses),
        validation=tuple(at.validation),
        best_epoch=max(at.best_epoch, 0),
        seconds=at.seconds,
        notes=(*filter(None, notes), *loop.portions.notes, *at.notes),
    )
