"""Batch normalisation over the shares of several processes, so that they train what one process would.

`torch.nn.SyncBatchNorm` does this on GPUs only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextlib.contextmanager
def norms_shared(network: nn.Module) -> Iterator[None]:
    """Let the network's batch normalisation in training mode use statistics of the default process group's batch."""
    norms = [module for module in network.modules() if isinstance(module, _KINDS)]
    for norm in norms:
        norm.forward = partial(_forward, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class's own comes back


def _forward(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Ioffe, Szegedy: Batch Normalization, 2015, algorithm 1; mean first, then variance: no cancellation."""
    if not norm.training:
        result: Tensor = type(norm).forward(norm, x)
        return result
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    count = _summed(x.new_tensor(x.numel() / x.shape[1]))
    mean = _summed(x.sum(axes)) / count
    centred = x - mean.view(shape)
    variance = _summed(centred.square().sum(axes)) / count
    if norm.track_running_stats and norm.running_mean is not None:
        _track(norm, mean.detach(), variance.detach() * count / (count - 1))
    y = centred * torch.rsqrt(variance + norm.eps).view(shape)
    return y * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else y


def _track(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


def _summed(tensor: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(tensor)
    return result


class _Sum(torch.autograd.Function):  # type: ignore[misc]
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total
