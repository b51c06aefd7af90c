"""When boards that cannot be reached, or that are busy, are tried again."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from edgeopt.core.rollout import RETRYABLE, BoardProgress


@dataclass(frozen=True)
class Patience:
    """How often and how soon.

    Attributes:
        tries: Attempts before a board counts as away; its wave may then go on without it.
        first_wait_seconds: After the first; doubles each time.
        away_seconds: Between attempts at a board that is away, as long as the rollout lasts.
    """

    tries: int = 3
    first_wait_seconds: float = 5.0
    away_seconds: float = 60.0

    def of(self, board: BoardProgress, now: float) -> BoardProgress:
        """The board with the time at which it is tried again: waiting first, unreachable when it counts as away."""
        away = board.attempts >= self.tries
        wait = self.first_wait_seconds * 2 ** (min(max(board.attempts, 1), 16) - 1)
        wait = self.away_seconds if away else min(wait, self.away_seconds)
        at = now + wait * (0.75 + _share(board.board, board.attempts) / 2)
        return dataclasses.replace(board, state="unreachable" if away else "waiting", retry_at=at)


def comes_back(board: BoardProgress) -> bool:
    """Whether a board that was not reached is to be tried again."""
    return board.state == "unreachable" and board.failure in RETRYABLE


def _share(name: str, attempt: int) -> float:
    """A number in [0, 1) that differs between boards, so that they do not all come back at once."""
    return hashlib.sha256(f"{name}/{attempt}".encode()).digest()[0] / 256
