"""Random search: every untried point is as likely as any other; what other strategies are to beat.

Bergstra, Bengio: Random Search for Hyper-Parameter Optimization, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edgeopt.core.space import Point, Space, Trial
from edgeopt.selection.strategies._base import generator, history, untried


class RandomSearch:
    """Draws from all points that are not tried yet; right where little is known, or everything can be tried."""

    name: ClassVar[str] = "random"

    def ask(self, space: Space, trials: Sequence[Trial], seed: int) -> Point | None:
        """See `Strategy.ask`."""
        return untried(space, [one.point for one in history(space, trials)], generator(seed, trials))
