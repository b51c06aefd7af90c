"""Chooses a precision for each layer: least loss for what is saved, until a budget holds. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FLOAT = "float"
"""The precision that every layer has at first."""


@dataclass(frozen=True)
class Choice:
    """What one layer can be.

    Attributes:
        costs: By precision, `FLOAT` included; bytes or milliseconds.
        losses: By precision but `FLOAT`: error of the network's outputs with this layer alone in it; ``None`` where
            that is not known, which counts as worse than all that is.
    """

    costs: Mapping[str, float]
    losses: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def least(self) -> float:
        """The cost of the cheapest precision."""
        return min(self.costs.values())


def choose(layers: Mapping[str, Choice], limit: float) -> dict[str, str]:
    """A precision for each layer, total cost at most `limit`.

    Greedy: of all steps to something cheaper the one with the least added loss for each unit saved, until the limit
    holds; losses of layers are taken to add up (Wu et al.: Integer Quantization for Deep Learning Inference, 2020,
    §6.1). A knapsack could be solved exactly, but its losses are estimates.

    Args:
        layers: By name.
        limit: Total cost allowed; the caller knows that it can be met.
    """
    chosen = dict.fromkeys(layers, FLOAT)
    total = sum(choice.costs[FLOAT] for choice in layers.values())
    while total > limit:
        steps = [
            (*_price(choice, chosen[name], precision), name, precision)
            for name, choice in layers.items()
            for precision, cost in choice.costs.items()
            if cost < choice.costs[chosen[name]]
        ]
        if not steps:
            break
        *_, name, precision = min(steps)
        costs = layers[name].costs
        total -= costs[chosen[name]] - costs[precision]
        chosen[name] = precision
    return chosen


def _price(choice: Choice, before: str, after: str) -> tuple[bool, float]:
    """Whether a step's loss is unknown, and its added loss for each unit saved; unknown: gentle steps first."""
    loss, known = choice.losses.get(after), choice.losses.get(before) or 0.0
    if loss is None:
        return True, -choice.costs[after] / choice.costs[FLOAT]
    return False, (loss - known) / (choice.costs[before] - choice.costs[after])
