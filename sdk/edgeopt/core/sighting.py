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
        by_report: Whether that is from a report which it put into its store at `seen_at`; nobody asked it.
        hardware: Marks of its hardware, whatever disk is in it; empty where nothing tells boards apart.
    """

    board: str
    profile: str
    reachable: bool
    asked_at: float
    seen_at: float = 0.0
    detail: str = ""
    releases: tuple[BoardRelease, ...] = ()
    by_report: bool = False
    hardware: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardStatus:
    """A board, and what is to be known of it.

    Attributes:
        sighting: What it answered or reported, now or last.
        drift: What is not as it should be there, one line each; empty where all is well.
        notes: What else an operator should know; nothing is wrong with the board for it.
    """

    sighting: Sighting
    drift: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
