"""From a pass's context and options to the training engine: samples, options, loss and notes, alike for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.training.engine import train
from edgeopt.training.loop import AfterStep
from edgeopt.training.losses import NO_LABELS, Loss, check_all_labels, supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples


def training_of(context: PassContext, names: Sequence[str], *, labelled: bool) -> Samples:
    """The samples to train on: the training set, or, where no labels are needed, the calibration set.

    Args:
        context: Of the pass.
        names: The network's inputs, in order.
        labelled: Whether the pass needs labels.

    Raises:
        PassError: There are none, or none with labels.
        DataError: They do not fit the network's inputs.
    """
    path = context.training or (None if labelled else context.calibration)
    if path is None:
        what, remedy = ("labels", NO_LABELS) if labelled else ("samples", "Give --data data.py:samples.")
        raise PassError(f"it trains and needs {what}, and there are none.", remedy=remedy)
    samples = Samples(path, names)
    if labelled and not samples.labelled:
        raise PassError("it trains on labels, and the training samples have none.", remedy=NO_LABELS)
    return samples


def training_options(options: Any, **changes: Any) -> TrainingOptions:
    """A pass's options as the engine's: fields of the same name, then `changes`.

    Raises:
        PassError: A combination that the engine refuses; says the values.
    """
    known = {field.name for field in dataclasses.fields(TrainingOptions)}
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name in known}
    try:
        return TrainingOptions(**{**own, **changes})
    except ValueError as error:
        raise PassError(f"its training options cannot be used: {error}.") from None


def train_pass(
    network: nn.Module,
    samples: Samples,
    options: Any,
    context: PassContext,
    *,
    loss: Loss | None = None,
    after_step: AfterStep | None = None,
    **changes: Any,
) -> tuple[str, ...]:
    """Train a network in place, as a pass does it.

    Args:
        network: See `engine.train`.
        samples: From `training_of`.
        options: The pass's, whose fields of `TrainingOptions`' names count; or `TrainingOptions`.
        context: Seed, checkpoint and the user's loss.
        loss: Another than the one on labels.
        after_step: See `engine.train`.
        **changes: Fields of `TrainingOptions` that the pass decides.

    Returns:
        Notes for the user.

    Raises:
        PassError: See `engine.train`.
        DataError: Labels that do not fit the outputs.
    """
    if loss is None:
        loss = supervised(context.loss)
        if not context.loss:
            check_all_labels(network, samples)
    report = train(
        network,
        samples,
        loss,
        training_options(options, **changes),
        seed=context.seed,
        checkpoint=context.checkpoint,
        after_step=after_step,
    )
    return report.notes
