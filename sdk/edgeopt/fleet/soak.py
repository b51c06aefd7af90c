"""The boards of a wave that are to be measured again when it has soaked."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from edgeopt.core.rollout import BoardProgress


class Soak:
    """Which boards of one wave run the release, and have been measured again."""

    def __init__(self, wave: int, boards: Iterable[BoardProgress] = ()) -> None:
        self._wave = wave
        self._waiting: dict[str, None] = {}
        self._measuring: set[str] = set()
        for board in boards:
            self.put(board)

    @property
    def busy(self) -> int:
        """How many are being measured."""
        return len(self._measuring)

    @property
    def over(self) -> bool:
        """Whether all have been measured again."""
        return not self._waiting and not self._measuring

    def put(self, board: BoardProgress) -> None:
        """Take in how a board stands now."""
        if board.wave == self._wave and board.state == "committed" and board.soaked is None:
            self._waiting[board.board] = None
        else:
            self._waiting.pop(board.board, None)

    def take(self, room: int) -> list[str]:
        """Up to so many boards whose measurement begins now."""
        names = list(islice((name for name in self._waiting if name not in self._measuring), max(0, room)))
        self._measuring.update(names)
        return names

    def done(self, name: str) -> None:
        """Nobody measures a board any more."""
        self._measuring.discard(name)
