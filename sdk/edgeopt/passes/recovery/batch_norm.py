"""Measures the statistics of batch normalisation anew, as the layers before it are now."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgeopt.errors import PassError
from edgeopt.training.samples import Samples

NORMS = nn.modules.batchnorm._BatchNorm


def recalibrate(network: nn.Module, samples: Samples, batch_size: int) -> int:
    """Replace running mean and variance of every batch normalisation by their means over batches.

    Args:
        network: Changed in place; in evaluation mode before and after.
        samples: Inputs; divided in batches of nearly `batch_size`.
        batch_size: Least samples of a batch, as far as there are so many.

    Returns:
        How many there are.

    Raises:
        PassError: There is no batch normalisation, or a batch has a single value of a channel.
    """
    norms = [module for module in network.modules() if isinstance(module, NORMS) and module.track_running_stats]
    if not norms:
        raise PassError("nothing to recalibrate: the network has no batch normalisation, or it is folded already.")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: the mean over all batches, not a moving one
        norm.train()
    try:
        _run(network, samples, batch_size)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return len(norms)


def _run(network: nn.Module, samples: Samples, batch_size: int) -> None:
    batches = np.array_split(np.arange(len(samples)), max(1, len(samples) // batch_size))
    with torch.no_grad():
        for batch in batches:
            inputs, _ = samples.batch(batch)
            try:
                network(*inputs)
            except ValueError as error:  # torch: "Expected more than 1 value per channel when training"
                raise PassError(
                    f"statistics cannot be taken over batches of {len(batch)}: {' '.join(str(error).split())[:150]}",
                    remedy="Give more calibration samples.",
                ) from None
