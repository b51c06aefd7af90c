"""Several boards in one run: what each board of a kind did, and the one winner for all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.deployment import Deployment
from edgeopt.core.device import Device
from edgeopt.core.selection import Interval


@dataclass(frozen=True)
class BoardPart:
    """One board's part in the run of its kind.

    Attributes:
        device: The board.
        fingerprint: Of its facts; empty where it could not be asked.
        launches: How many measurements it took or had taken before.
        lost: Why it dropped out; empty where it did all.
        ratio: Latency here over that on the other boards of the kind, of the finalist in which they differ most;
            ``None`` where there is nothing to compare.
        disagrees: In one sentence in what it differs by more than the tolerance; empty where it does not.
        deployment: What is active on it; ``None`` where nothing was activated.
    """

    device: Device
    fingerprint: str = ""
    launches: int = 0
    lost: str = ""
    ratio: Interval | None = None
    disagrees: str = ""
    deployment: Deployment | None = None


@dataclass(frozen=True)
class Common:
    """One winner for all kinds of boards.

    Attributes:
        name: The variant's.
        digest: Its file.
        ratios: By profile: the objective of this file there over the best that this kind could have for itself.
    """

    name: str
    digest: str
    ratios: Mapping[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The largest of the ratios, which no other file makes smaller."""
        return max(self.ratios.values(), default=1.0)
