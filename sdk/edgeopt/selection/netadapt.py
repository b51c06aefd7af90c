"""Chooses how many channels each layer keeps from measured times: NetAdapt's problem, solved on tables.

Yang, Howard, Chen, Zhang, Go, Sandler, Sze, Adam: NetAdapt: Platform-Aware Neural Network Adaptation for Mobile
Applications, 2018, eq. 1 and 2: accuracy is maximised under a resource budget that shrinks step by step, and in every
step the layer is narrowed whose narrowing costs least. As there, the time of a network is the sum of its layers' times
from look-up tables (§3.3). Unlike there, a step is judged by the error that narrowing one group alone causes at the
outputs, not by a network trained for each choice: that needs no labels and minutes instead of days.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROUNDINGS = (1, 2, 4, 8, 16)
"""Multiples of channels that a device may like."""


@dataclass(frozen=True)
class LayerTimes:
    """Measured times of one layer, in any one unit.

    Attributes:
        inputs, outputs: Channels of the unmodified layer.
        by_inputs: Time by input channels, all output channels kept; holds `inputs`.
        by_outputs: Time by output channels, all input channels kept; holds `outputs`.
        tied: Whether input and output channels are the same ones (depthwise): `by_outputs` alone counts.
    """

    inputs: int
    outputs: int
    by_inputs: Mapping[int, float]
    by_outputs: Mapping[int, float]
    tied: bool = False

    def at(self, inputs: int, outputs: int) -> float:
        """Time at other widths: interpolated along both, and multiplied as if they did not depend on each other."""
        full = self.by_outputs[self.outputs]
        narrowed = _interpolated(self.by_outputs, outputs)
        if self.tied or full <= 0:
            return narrowed
        return narrowed * _interpolated(self.by_inputs, inputs) / self.by_inputs[self.inputs]


@dataclass(frozen=True)
class Group:
    """Channels that can only go together (a residual stream, say).

    Attributes:
        name: The layer that stands for the group.
        channels: How many there are.
        outputs: Layers that give these channels, each with how many of its own these are.
        inputs: Layers that take them, each with how many of its own these are (more, behind a flattening).
        errors: What keeping only so many costs at the network's outputs, by width; 0 at `channels`.
    """

    name: str
    channels: int
    outputs: Mapping[str, int]
    inputs: Mapping[str, int]
    errors: Mapping[int, float]


@dataclass(frozen=True)
class Widths:
    """The choice.

    Attributes:
        kept: Channels by group.
        share: Predicted time as a share of the unmodified network's.
        met: Whether that is within the budget.
    """

    kept: Mapping[str, int]
    share: float
    met: bool


def choose_widths(
    groups: Sequence[Group], layers: Mapping[str, LayerTimes], *, budget: float, fixed: float = 0.0
) -> Widths:
    """Narrow the group that costs least error for the time it saves, again and again, until the budget holds.

    Args:
        groups: Every group with its allowed widths (the keys of `errors`).
        layers: Times by layer.
        budget: Share of the time that may remain, 0 to 1.
        fixed: Time of everything that no width changes, in the unit of `layers`.
    """
    kept = {group.name: group.channels for group in groups}
    whole = total = fixed + _total(groups, layers, kept)
    while total > budget * whole:
        best: tuple[float, str, int, float] | None = None
        for group in groups:
            for width in group.errors:
                if width >= kept[group.name]:
                    continue
                time = fixed + _total(groups, layers, {**kept, group.name: width})
                if time >= total:  # narrower, yet no faster on this device
                    continue
                cost = max(0.0, group.errors[width] - group.errors[kept[group.name]]) / (total - time)
                if best is None or (cost, -width) < (best[0], -best[2]):
                    best = (cost, group.name, width, time)
        if best is None:
            break
        _, name, kept[name], total = best
    return Widths(kept, total / whole if whole else 1.0, total <= budget * whole)


def _total(groups: Sequence[Group], layers: Mapping[str, LayerTimes], kept: Mapping[str, int]) -> float:
    """Time of all layers at the kept widths."""
    inputs = {name: float(times.inputs) for name, times in layers.items()}
    outputs = {name: float(times.outputs) for name, times in layers.items()}
    for group in groups:
        gone = 1 - kept[group.name] / group.channels
        for sides, taken in ((inputs, group.inputs), (outputs, group.outputs)):
            for layer, channels in taken.items():
                if layer in sides:
                    sides[layer] -= gone * channels
    return sum(times.at(round(inputs[name]), round(outputs[name])) for name, times in layers.items())


def natural_rounding(times: Mapping[int, float]) -> int:
    """The multiple of channels that a device's times go by.

    A device that computes `r` channels at once takes for `base + x` channels what the next multiple of `r` takes.

    Args:
        times: Time by channels, at a multiple of 16, at that plus 16, and between.

    Returns:
        Of `ROUNDINGS` the one whose steps fit best; the smallest among equals.
    """
    base = min(times)
    rise = times[base + 16] - times[base]
    if rise <= 0:
        return ROUNDINGS[-1]

    def misfit(step: int) -> float:
        return sum(
            (time - times[base] - rise * (-(-(width - base) // step) * step) / 16) ** 2 for width, time in times.items()
        )

    return min(ROUNDINGS, key=misfit)


def _interpolated(times: Mapping[int, float], width: int) -> float:
    """Linear between measured widths; below the narrowest in proportion to nothing: its time is a floor."""
    known = sorted(times)
    place = bisect_left(known, width)
    if place < len(known) and known[place] == width:
        return times[width]
    if place == 0:
        return times[known[0]]
    if place == len(known):
        return times[known[-1]]
    low, high = known[place - 1], known[place]
    return times[low] + (times[high] - times[low]) * (width - low) / (high - low)
