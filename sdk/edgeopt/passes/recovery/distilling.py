"""Trains a student on what its teacher says: the part that all passes which distil have in common."""

from __future__ import annotations

import torch
from torch import nn

from edgeopt.passes._base import PassContext
from edgeopt.passes._training import train_pass
from edgeopt.passes.recovery.distil_options import DistilOptions
from edgeopt.training._feature_pairs import paired
from edgeopt.training._outputs import demand_same_outputs, survey
from edgeopt.training.distillation import Distillation, Weights
from edgeopt.training.loop import AfterStep
from edgeopt.training.samples import Samples


def distil_into(
    student: nn.Module,
    teacher: nn.Module,
    samples: Samples,
    options: DistilOptions,
    context: PassContext,
    *,
    after_step: AfterStep | None = None,
) -> tuple[str, ...]:
    """Train a student in place.

    Args:
        student: In evaluation mode.
        teacher: In evaluation mode; another module than the student.
        samples: With labels or without.
        options: How.
        context: Seed, checkpoint and the user's loss.
        after_step: See `edgeopt.training.engine.train`.

    Returns:
        Notes for the user.

    Raises:
        PassError: Outputs of other sizes, layers that are not there, or the training failed.
        DataError: Samples or labels that do not fit.
    """
    inputs = samples.batch([0])[0]
    demand_same_outputs(teacher, student, inputs)
    targets = survey(teacher, samples, options.outputs)
    features = paired(teacher, student, inputs, options.features)
    attention = paired(teacher, student, inputs, options.attention)
    weights = Weights(
        options.temperature, options.labels_weight, hints=options.features_weight, attention=options.attention_weight
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)  # regressors begin at random
        loss = Distillation(teacher, targets, weights, features=features, attention=attention, user_loss=context.loss)
    notes = train_pass(student, samples, options, context, loss=loss, after_step=after_step)
    labelled = samples.labelled and options.labels_weight > 0
    return (f"learned from the teacher on {len(samples)} samples, {'with' if labelled else 'without'} labels", *notes)
