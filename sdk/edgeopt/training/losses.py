"""What a training makes small: losses on labels, and penalties on weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeopt.errors import DataError, PassError
from edgeopt.graph.user_code import load_function, user_problem
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples

Loss = Callable[[nn.Module, "tuple[Tensor, ...]", "Tensor | None"], Tensor]
"""(network, inputs, labels) to the mean over the batch, a scalar. May be an `nn.Module`: its parameters train along."""

_CHUNK = 1 << 14
NO_LABELS = "Give --train data.py:train (inputs and labels)."


def supervised(user_loss: str = "") -> Loss:
    """The loss on labels.

    Args:
        user_loss: ``file.py:function(outputs, labels)`` of the user, returns a scalar tensor; empty: cross-entropy for
            whole labels, mean squared error for real ones, both on the first output.

    Raises:
        DataError: There is no such function.
    """
    if user_loss:
        return _UserLoss(user_loss)
    return _labelled


def _labelled(network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
    return loss_on_labels(first_output(network(*inputs)), _demanded(labels))


def _demanded(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise PassError("training on labels needs labels, and the samples have none.", remedy=NO_LABELS)
    return labels


def first_output(outputs: Any) -> Tensor:
    """The first of a network's outputs."""
    found: Tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return found


def loss_on_labels(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy for whole labels, mean squared error for real ones.

    Args:
        outputs: Logits or probabilities [B, ..., classes] or [B, classes, ...]; or values [B, ...].
        labels: Class numbers [B, ...], or values [B, ...].

    Raises:
        DataError: They do not fit; says both shapes, or the label that is no class.
    """
    if labels.is_floating_point():
        if outputs.numel() != labels.numel():
            raise _misfit(outputs, labels, "Real labels need the output's shape.")
        return nn.functional.mse_loss(outputs.float(), labels.reshape(outputs.shape))
    axis = class_axis(outputs, labels)
    logits = outputs.movedim(axis, -1).flatten(0, -2).float()
    check_classes(labels, logits.shape[-1])
    return nn.functional.nll_loss(_log_probabilities(logits), labels.flatten())


def class_axis(outputs: Tensor, labels: Tensor) -> int:
    """The axis of `outputs` that runs over classes.

    Raises:
        DataError: No axis fits the labels.
    """
    if outputs.ndim > 1 and outputs.shape[-1] > 1 and outputs.shape[:-1] == labels.shape:
        return -1
    if outputs.ndim > 2 and outputs.shape[1] > 1 and (outputs.shape[0], *outputs.shape[2:]) == labels.shape:
        return 1
    remedy = "Class numbers need an output with one more dimension than the labels; else give --loss file.py:function."
    raise _misfit(outputs, labels, remedy)


def check_classes(labels: Tensor, classes: int, where: str = "") -> None:
    """Check class numbers.

    Raises:
        DataError: One is out of range; says which.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = int(labels[(labels < 0) | (labels >= classes)].flatten()[0])
        hint = "Subtract 1 from the labels." if (low, high) == (1, classes) else "Check which network they are for."
        raise DataError(
            f"label {wrong}{where} is no class: the network has the classes 0 to {classes - 1}.", remedy=hint
        )


def check_all_labels(network: nn.Module, samples: Samples) -> None:
    """Check the labels of all samples against the network's first output, before any time goes into training.

    Raises:
        DataError: They do not fit; names the sample.
    """
    inputs, labels = samples.batch([0])
    with torch.no_grad():
        outputs = first_output(network.eval()(*inputs))
    loss_on_labels(outputs, _demanded(labels))
    if _demanded(labels).is_floating_point():
        return
    classes = outputs.shape[class_axis(outputs, _demanded(labels))]
    for begin in range(0, len(samples), _CHUNK):
        part = samples.labels(range(begin, min(begin + _CHUNK, len(samples))))
        wrong = ((part < 0) | (part >= classes)).nonzero()
        if len(wrong):
            sample = begin + int(wrong[0][0]) // samples.rows
            check_classes(part, classes, f" of sample {sample}")


def _log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax, or the logarithm alone where the network ends with a soft-max: rows are ≥ 0 and sum to 1."""
    with torch.no_grad():
        sums = logits.sum(-1)
        already = bool((logits >= 0).all()) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-3))
    return logits.clamp_min(1e-7).log() if already else logits.log_softmax(-1)


def _misfit(outputs: Tensor, labels: Tensor, remedy: str) -> DataError:
    return DataError(f"labels {list(labels.shape)} do not fit the output {list(outputs.shape)}.", remedy=remedy)


class _UserLoss:
    """The user's function of outputs and labels, its failures as ours."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.function = load_function(source, DataError, given=2)

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        outputs = network(*inputs)
        try:
            value = self.function(outputs, _demanded(labels))
        except Exception as problem:
            raise user_problem(f"the loss {self.source}", problem, DataError) from None
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise DataError(
                f"the loss {self.source} returned {found}, not a scalar tensor.",
                remedy="Return the mean over the batch.",
            )
        if torch.is_grad_enabled() and not value.requires_grad:
            raise DataError(
                f"the loss {self.source} returned a value without gradient.",
                remedy="Compute it from the outputs with torch's functions, without detach() or item().",
            )
        return value.reshape(())


def penalty(network: nn.Module, options: TrainingOptions) -> Tensor | None:
    """The regularising terms that the options ask for, or ``None``.

    L1 on the scales of batch and group normalisation (Liu et al., 2017, eq. 1), L1 on weights, and group lasso over
    output channels (Wen et al., 2016, eq. 4; each group weighted by the root of its size: Yuan, Lin, 2006).
    """
    terms: list[Tensor] = []
    if options.norm_penalty:
        terms += [options.norm_penalty * scale.abs().sum() for scale in norm_scales(network)]
    weights = [tensor for tensor in network.parameters() if tensor.ndim >= 2 and tensor.requires_grad]
    if options.l1:
        terms += [options.l1 * tensor.abs().sum() for tensor in weights]
    if options.group_lasso:
        terms += [
            options.group_lasso * tensor[0].numel() ** 0.5 * tensor.flatten(1).norm(dim=1).sum() for tensor in weights
        ]
    return torch.stack(terms).sum() if terms else None


def norm_scales(network: nn.Module) -> list[nn.Parameter]:
    """Trainable scales of batch and group normalisation."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
    found = [module.weight for module in network.modules() if isinstance(module, kinds)]
    return [scale for scale in found if scale is not None and scale.requires_grad]
