"""From a pass's context and options to the training engine: samples, options, loss and notes, alike for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.training.engine import train
from edgeopt.training.loop import AfterStep
from edgeopt.training.losses import NO_LABELS, Loss, check_all_labels, supervised
from edgeopt.training.options import TrainingOptions, same_named
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
    try:
        return TrainingOptions(**{**same_named(options), **changes})
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


def zeros_kept(network: nn.Module) -> AfterStep | None:
    """For `train_pass`: puts weights that are zero now back to zero after each step; ``None`` where there are none."""
    masks = {name: tensor != 0 for name, tensor in network.named_parameters() if tensor.ndim >= 2}
    masks = {name: mask for name, mask in masks.items() if not bool(mask.all())}
    if not masks:
        return None

    def put_back(network: nn.Module, _: int, __: int) -> None:
        with torch.no_grad():
            for name, mask in masks.items():
                parameter = network.get_parameter(name)
                parameter.mul_(mask.to(parameter.device))

    return put_back
