"""What passes that train learn from beside labels, or without any: the unmodified network's outputs."""

from __future__ import annotations

import copy

from torch import nn

from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext
from edgeopt.training._outputs import survey
from edgeopt.training.distillation import Distillation, Weights
from edgeopt.training.losses import Loss
from edgeopt.training.samples import Samples


def after_original(network: nn.Module, samples: Samples, context: PassContext, *, labels: float = 0.0) -> Loss:
    """The loss that wants the original's outputs, or those that `network` has now where there is no original.

    Args:
        network: Any; is not changed.
        samples: Of the training.
        context: Of the pass.
        labels: Share of the labels' loss, 0 to 1.

    Raises:
        PassError: Its outputs are not finite, or none of them is real.
    """
    teacher = import_onnx(context.original) if context.original else copy.deepcopy(network)
    return Distillation(
        teacher, survey(teacher, samples, "auto"), Weights(labels=labels), user_loss=context.loss if labels else ""
    )
