"""A board as it was seen last: what it answered, or since when it does not."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.core.release import BoardRelease


@dataclass(frozen=True)
class Sighting:
    """What is known of a board without asking it again.

    Attributes:
        board, profile: Who.
        reachable: Whether it answered when it was asked last.
        asked_at: When that was, in seconds since the epoch.
        seen_at: When it answered last; 0 where it never did.
        detail: Why it did not answer; empty where it did.
        releases: What it said it has, one an app; of the last answer.
    """

    board: str
    profile: str
    reachable: bool
    asked_at: float
    seen_at: float = 0.0
    detail: str = ""
    releases: tuple[BoardRelease, ...] = ()
