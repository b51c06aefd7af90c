"""What the engine needs of a board, whatever carries it: SSH, this machine, or a simulation of a thousand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgeopt.core.release import BoardRelease, HealthFigures

Throttle = Callable[[int], None]
"""Called with bytes before they leave; returns when they may."""
OnBytes = Callable[[int, int], None]
"""Called with the bytes that are there and all that go there."""


@dataclass(frozen=True)
class Order:
    """What a rollout tells a board.

    Attributes:
        rollout, board: Which rollout, which board.
        app, version, manifest, target: The release: its names, the SHA-256 of its manifest and its TUF path.
        profile: The entry of the release that is for this board.
        fence: Of the rollout's driver.
        number: How many orders of this rollout the board has answered before.
        insecure_unsigned: Whether it may do without signatures, which marks it.
    """

    rollout: str
    board: str
    app: str
    version: str
    manifest: str
    target: str
    profile: str
    fence: int
    number: int = 0
    insecure_unsigned: bool = False

    @property
    def job_id(self) -> str:
        """The same for the same order, whoever gives it: a board does it once and tells its result again."""
        return hashlib.sha256(f"{self.rollout}/{self.board}/{self.number}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Preflight:
    """What a board says of an order before anything is done.

    Attributes:
        action: ``nothing``: it runs the release already.
        code, reason: Why it skips or refuses.
        send_bytes: What goes there, deltas and what it has already taken into account.
        free_bytes: Space there.
        before: What it has of the app.
        way: How the bytes go; for the port that made it.
    """

    action: Literal["update", "nothing", "skip", "refuse"]
    code: str = ""
    reason: str = ""
    send_bytes: int = 0
    free_bytes: int | None = None
    before: BoardRelease | None = None
    way: Any = None


@dataclass(frozen=True)
class Outcome:
    """How an order ended on the board.

    Attributes:
        outcome: As the board says it.
        code, reason: Why, where it did not commit.
        before, after: What it measured of the release that it had, and of this one.
        version: What is active there now.
        step: Where it ended, for example ``smoke``.
    """

    outcome: Literal["committed", "nothing", "skipped", "aborted", "rolled_back", "inconclusive", "safe_stop"]
    code: str = ""
    reason: str = ""
    before: HealthFigures | None = None
    after: HealthFigures | None = None
    version: str = ""
    step: str = ""


class BoardPort(Protocol):
    """A board that is reached. Any method may raise `edgeopt.errors.DeviceError`."""

    def utc_offset_seconds(self) -> float | None:
        """How far its local time is ahead of UTC; ``None`` where it does not say."""

    def collect(self, order: Order, on_phase: Callable[[str], None]) -> Outcome | None:
        """How an order that it was given before ended, waiting for it; ``None`` where it was never given it."""

    def bring_trust(self) -> None:
        """Have it verify the newest metadata, signed over a nonce of its own."""

    def preflight(self, order: Order) -> Preflight:
        """What it would do; changes nothing there but what it knows of the release."""

    def send(self, order: Order, preflight: Preflight, throttle: Throttle, on_bytes: OnBytes) -> int:
        """Bring what it lacks, verified there; returns the bytes that were sent."""

    def update(self, order: Order, on_phase: Callable[[str], None]) -> Outcome:
        """Give the order and wait for its end."""

    def recheck(self, order: Order) -> Outcome:
        """Measure what is active once more: ``committed`` with `after`, ``rolled_back`` where it is healthy no more."""

    def release(self, app: str) -> BoardRelease | None:
        """What it has of an app, its files hashed; ``None`` for nothing."""


Connect = Callable[[str], AbstractContextManager[BoardPort]]
"""Reaches a board by its name; the block ends the connection."""
