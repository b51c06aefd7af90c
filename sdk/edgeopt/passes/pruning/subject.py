"""What passes that prune have in common: samples, names of layers, and how much smaller a network became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.pruning.widths import Work
from edgeopt.training.losses import Loss, supervised
from edgeopt.training.samples import Samples

BATCH = 16
"""Samples that a network takes at once."""

_LISTED = 12


@dataclass(frozen=True)
class Data:
    """Samples for a pruning pass.

    Attributes:
        typical: Calibration inputs.
        judged: Samples for gradients: labelled ones where there are any.
        loss: On the labels, or ``None``.
    """

    typical: Samples
    judged: Samples
    loss: Loss | None

    def inputs(self, network: nn.Module) -> tuple[Tensor, ...]:
        """Two samples as one batch, or one where the network takes no more.

        Raises:
            PassError: It runs on neither.
        """
        problem = ""
        for count in (2, 1):
            inputs, _ = self.typical.batch(range(min(count, len(self.typical))))
            try:
                with torch.no_grad():
                    network(*inputs)
            except (RuntimeError, ValueError, IndexError) as error:
                problem = " ".join(str(error).split())[:200]
            else:
                return inputs
        raise PassError(f"the network does not run on the calibration inputs: {problem}.", remedy="Check their shapes.")


def data_of(context: PassContext, names: Sequence[str]) -> Data:
    """Samples of a context.

    Raises:
        PassError: There are none.
    """
    typical = Samples(demand_calibration(context), names)
    training = Samples(context.training, names) if context.training else None
    if training is not None and training.labelled:
        return Data(typical, training, supervised(context.loss))
    return Data(typical, training or typical, None)


def demand_calibration(context: PassContext) -> Path:
    """The calibration file.

    Raises:
        PassError: There is none.
    """
    if context.calibration is None:
        raise PassError("pruning needs typical inputs and got none.", remedy="Give --data file.py:function.")
    return context.calibration


def layer_names(network: nn.Module) -> dict[str, str]:
    """Paths of submodules to the names by which the user knows the layers; the path itself where there is none."""
    known: dict[str, str] = getattr(network, "layer_names", {})
    return {path: known.get(path, path) for path, _ in network.named_modules()}


def demand_layers(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Check names that the user gave.

    Raises:
        PassError: One that does not exist.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise PassError(
            f"{option} names {unknown[0]!r}, which is no layer that can be pruned.", remedy=f"Layers: {listed(known)}."
        )


@dataclass(frozen=True)
class Size:
    """Work and weights of a network."""

    macs: int
    parameters: int

    def to(self, after: Size) -> str:
        """Both before and after, in words."""
        macs = f"MACs {amount(self.macs)} -> {amount(after.macs)} (x{after.macs / max(self.macs, 1):.2f})"
        return f"{macs}, parameters {amount(self.parameters)} -> {amount(after.parameters)}"


def size_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> Size:
    """Measure a network on inputs; MACs are for one row."""
    rows = max(len(inputs[0]), 1)
    return Size(Work(network, inputs).total // rows, sum(tensor.numel() for tensor in network.parameters()))


def amount(value: float) -> str:
    """A count in words: 950, 31.2 k, 4.1 M."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}"


def listed(items: Sequence[Any]) -> str:
    """Items with commas, the first few and how many more."""
    shown = ", ".join(str(item) for item in items[:_LISTED])
    return f"{shown} and {len(items) - _LISTED} more" if len(items) > _LISTED else shown
