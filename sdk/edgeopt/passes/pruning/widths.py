"""How many units of each channel group stay, so that a goal is met: a ratio, a share of the work, or given widths."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from edgeopt.errors import PassError
from edgeopt.passes.pruning.channels import RECURRENT, Group


@dataclass(frozen=True)
class Limits:
    """What bounds the choice.

    Attributes:
        ranking: Whether units of all groups are compared, or each group loses the same share.
        round_to: The kept channels of a layer are a multiple, where the layer is wide enough.
        floors: Units that a group keeps at least, by its root.
    """

    ranking: Literal["global", "layer"]
    round_to: int
    floors: Mapping[str, int]


class Work:
    """Multiply-accumulates of convolutions, linear and recurrent layers for one sample, and what removal saves.

    Args:
        network: The network.
        inputs: One sample.
    """

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._macs: dict[nn.Module, int] = {}
        kinds = (_ConvNd, nn.Linear, *RECURRENT)
        hooks = [layer.register_forward_hook(self._note) for layer in network.modules() if isinstance(layer, kinds)]
        try:
            with torch.no_grad():
                network(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def total(self) -> int:
        """Of the whole network."""
        return sum(self._macs.values())

    def after(self, groups: Sequence[Group], kept: Sequence[int]) -> float:
        """What is left when each group keeps so many units.

        Units of a group stand for equally many channels of a layer each, so shares of both sides multiply; in a
        depthwise convolution both sides are one.
        """
        shares: dict[nn.Module, dict[str, float]] = {}
        for group, units in zip(groups, kept, strict=True):
            for member in group.members:
                if member.module in self._macs:
                    lost = len(member.channels) * (1 - units / group.units) / _channels(member.module, member.side)
                    sides = shares.setdefault(member.module, {})
                    sides[member.side] = sides.get(member.side, 1.0) - lost
        return sum(macs * math.prod(shares.get(layer, {}).values()) for layer, macs in self._macs.items())

    def _note(self, module: Any, inputs: tuple[Any, ...], made: Any) -> None:
        positions = made[0] if isinstance(made, tuple) else made
        if isinstance(module, RECURRENT):
            weights = sum(value.numel() for name, value in module.named_parameters() if name.startswith("weight"))
            macs = inputs[0].numel() // inputs[0].shape[-1] * weights
        elif isinstance(module, _ConvTransposeNd):
            macs = inputs[0].numel() // module.in_channels * module.weight.numel()
        elif isinstance(module, _ConvNd):
            macs = positions.numel() // module.out_channels * module.weight.numel()
        else:
            macs = positions.numel() * module.in_features
        self._macs[module] = self._macs.get(module, 0) + macs


def _channels(module: Any, side: str) -> int:
    if isinstance(module, nn.Linear):
        return int(module.in_features if side == "in" else module.out_features)
    if isinstance(module, RECURRENT):
        return int(module.input_size)
    return int(module.in_channels if side == "in" else module.out_channels)


class Choice:
    """Ranks the units of groups and tells how many each group keeps when so many of the least important go.

    Args:
        groups: All groups that may be pruned.
        scores: [units] for each.
        limits: See `Limits`.
    """

    def __init__(self, groups: Sequence[Group], scores: Sequence[Tensor], limits: Limits) -> None:
        self._groups, self._limits = groups, limits
        self._orders = [torch.argsort(values, stable=True).tolist() for values in scores]
        ranked = []
        for index, (group, values) in enumerate(zip(groups, scores, strict=True)):
            for rank, unit in enumerate(self._orders[index][: group.units - self._floor(group)]):
                value = float(values[unit]) if limits.ranking == "global" else (rank + 1) / group.units
                ranked.append((value, index))
        self._ranked = sorted(ranked)

    def by_ratio(self, ratio: float) -> list[int]:
        """Kept units where a share of all units goes (global), or of each group's (layer)."""
        total = sum(group.units for group in self._groups)
        if self._limits.ranking == "layer":
            return self._kept(bisect.bisect_right(self._ranked, ratio + 1e-9, key=lambda entry: entry[0]))
        return self._kept(min(round(ratio * total), len(self._ranked)))

    def by_work(self, target: float, work: Callable[[Sequence[int]], float]) -> list[int]:
        """Kept units where the work falls to a target, with as little removed as will do.

        Raises:
            PassError: It cannot fall that far; says how far.
        """
        least = work(self._kept(len(self._ranked)))
        if least > target:
            raise PassError(
                f"MACs cannot fall below {least / 1e6:.3g} M by this pruning, {target / 1e6:.3g} M were asked.",
                remedy="Ask for a larger share, or lower min_keep or round_to.",
            )
        counts = range(len(self._ranked) + 1)
        return self._kept(bisect.bisect_left(counts, True, key=lambda count: work(self._kept(count)) <= target))

    def units(self, index: int, kept: int) -> list[int]:
        """The units that a group loses when it keeps so many."""
        return sorted(self._orders[index][: len(self._orders[index]) - kept])

    def _kept(self, removed: int) -> list[int]:
        counts = [0] * len(self._groups)
        for _, index in self._ranked[:removed]:
            counts[index] += 1
        return [self._rounded(group, group.units - count) for group, count in zip(self._groups, counts, strict=True)]

    def _rounded(self, group: Group, kept: int) -> int:
        """The nearest allowed width, never under the floor, never wider than it was."""
        step = _step(group, self._limits.round_to)
        nearest = max(step * math.floor(kept / step + 0.5), step)
        while nearest < self._floor(group):
            nearest += step
        return min(nearest, group.units)

    def _floor(self, group: Group) -> int:
        return min(self._limits.floors[group.root], group.units)


def _step(group: Group, round_to: int) -> int:
    """Units between two widths that are multiples of `round_to` channels."""
    return round_to // math.gcd(round_to, group.repeat)
