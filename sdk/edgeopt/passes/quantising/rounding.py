"""What passes that round weights layer by layer share: which layers, on which grid, until when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext, saturates
from edgeopt.passes.graphs.layers import Layer, Network, skips
from edgeopt.passes.graphs.questions import demand_nodes
from edgeopt.passes.quantising.grid import Bits, Floats, best_scale, codes_at, top_code


@dataclass(frozen=True)
class Lattice:
    """The grid that the quantiser will use.

    Attributes:
        bits: Bits a weight.
        reduced: Whether 8 bits leave out the upper half of the codes (`_base.saturates`).
        per_channel: One scale an output channel, else one for the whole weight.
    """

    bits: Bits
    reduced: bool
    per_channel: bool

    @classmethod
    def of(cls, bits: Bits, per_channel: bool, context: PassContext) -> Lattice:
        """That of the device that a pass works for."""
        return cls(bits, saturates(context.machine, context.isa), per_channel)

    @property
    def top(self) -> int:
        """The largest code."""
        return top_code(self.bits, reduced=self.reduced)

    def scale(self, weight: Floats) -> Floats:
        """Scales [O, 1, ..., 1] at which rounding weights [O, ...] to the nearest loses least."""
        flat = weight.reshape((len(weight), -1) if self.per_channel else (1, -1))
        scale = best_scale(flat, self.bits, 0, reduced=self.reduced)
        return np.ascontiguousarray(np.broadcast_to(scale, (len(weight), 1))).reshape(-1, *[1] * (weight.ndim - 1))

    def nearest(self, weight: Floats) -> Floats:
        """Weights [O, ...] rounded to the nearest."""
        scale = self.scale(weight)
        return codes_at(weight, scale, self.bits, reduced=self.reduced) * scale

    def __str__(self) -> str:
        """For notes."""
        return f"{7 if self.reduced and self.bits == 8 else self.bits} bits"


class Round:
    """The layers of a network that a pass may round, one after the other, while there is time.

    Args:
        network: What is rounded.
        context: Gives the layers that stay in float.
        seconds: No layer starts after this.

    Attributes:
        skipped: Why a layer was left as it is, by name; the pass may add to it.
        late: How many layers were not reached in time.

    Raises:
        PassError: An unknown node in `keep_float`, or no layer at all.
    """

    def __init__(self, network: Network, context: PassContext, seconds: float) -> None:
        demand_nodes(network.model, context.keep_float)
        self.skipped = dict(network.skipped)
        self.late = 0
        self._layers = [layer for layer in network.layers if layer.name not in context.keep_float]
        self._end = time.monotonic() + seconds
        if not self._layers:
            raise PassError("the network has no Conv, Gemm or MatMul with constant weights that may be rounded.")

    def __iter__(self) -> Iterator[Layer]:
        for index, layer in enumerate(self._layers):
            if time.monotonic() > self._end:
                self.late = len(self._layers) - index
                return
            yield layer

    def notes(self) -> tuple[str, ...]:
        """On layers that were left as they are."""
        late = (f"{self.late} of {len(self._layers)} layers were not reached in time",) if self.late else ()
        every = {layer.name for layer in self._layers}.union(self.skipped)
        return (*late, *skips(self.skipped, len(every)))
