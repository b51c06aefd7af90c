"""All boards together: who they are, where they stand, and when they may be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.device import Device

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Window:
    """When a board may be changed, by its own local time.

    Attributes:
        days: Names of `WEEKDAYS` on which it begins; empty: every day.
        start: Minutes since midnight.
        end: Minutes since midnight; at or below `start` it ends on the next day.
        date: The only day on which it begins, ``2026-11-28``; empty: every week.
    """

    days: tuple[str, ...]
    start: int
    end: int
    date: str = ""


@dataclass(frozen=True)
class Board:
    """A device of a fleet.

    Attributes:
        device: How to reach it, with its labels and profile.
        site: Where it stands; waves are spread over sites.
        window: When it may be changed; ``None``: always.
        zone: Its time zone, ``Europe/Oslo``; empty: the board says how far its clock is from UTC.
    """

    device: Device
    site: str = ""
    window: Window | None = None
    zone: str = ""

    @property
    def name(self) -> str:
        """The device's name."""
        return self.device.name

    @property
    def profile(self) -> str:
        """Name of its profile; empty where nobody has said or probed it."""
        return self.device.profile or ""


@dataclass(frozen=True)
class Fleet:
    """Boards, in the order of the inventory; no name twice."""

    boards: tuple[Board, ...]

    def __len__(self) -> int:
        return len(self.boards)

    def board(self, name: str) -> Board:
        """The board of that name.

        Raises:
            KeyError: There is none.
        """
        for board in self.boards:
            if board.name == name:
                return board
        raise KeyError(name)


@dataclass(frozen=True)
class Caps:
    """How much may happen at once.

    Attributes:
        concurrency: Boards at a time.
        per_jump: Boards at a time behind one jump host; sshd drops logins at random above 10.
        per_site: Boards at a time on one site; ``None``: no limit of its own.
        bytes_per_second: Of all transfers together; ``None``: unlimited.
        sites: Boards at a time on the sites that have a limit of their own.
    """

    concurrency: int = 64
    per_jump: int = 8
    per_site: int | None = None
    bytes_per_second: int | None = None
    sites: Mapping[str, int] = field(default_factory=dict)
