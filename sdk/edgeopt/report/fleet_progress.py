"""Follows a rollout: a live table on a terminal, plain lines in a log, JSON events for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live

from edgeopt.core.rollout import SETTLED, BoardProgress, GateVerdict, Rollout
from edgeopt.report import fleet_events as events
from edgeopt.report.fleet_summary import gate_line, headline
from edgeopt.report.fleet_table import Speeds, board_line, live_view
from edgeopt.report.visible import visible

_FRAME_SECONDS = 0.25


class PatientConsole(Console):
    """A console whose reader may leave: rich would end the process, in the middle of a rollout."""

    def on_broken_pipe(self) -> None:
        """Say nothing more."""
        self.quiet = True


class RolloutView:
    """Shows what is said of a rollout.

    Args:
        console: Where the table or the lines go; stderr by default.
        quiet: Show neither.
        json_to: Where events go, one JSON object a line; ``None``: nowhere.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        json_to: TextIO | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._console = console or PatientConsole(stderr=True, highlight=False)
        self._quiet, self._json_to, self._now = quiet or json_to is not None, json_to, now
        terminal = self._console.is_terminal and not self._quiet
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if terminal else None
        self._head: Rollout | None = None
        self._boards: dict[str, BoardProgress] = {}
        self._said = ("", 0, "")
        self._speeds, self._drawn_at, self._turn = Speeds(), 0.0, threading.RLock()

    def __enter__(self) -> RolloutView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, rollout: Rollout) -> None:
        """The rollout as it stands before anything is heard of it."""
        self._boards = {board.board: board for board in rollout.boards}
        self.moved(rollout, ())

    def moved(self, head: Rollout, boards: tuple[BoardProgress, ...]) -> None:
        """The rollout, without its boards, and those that stand otherwise."""
        with self._turn:
            self._head = head
            for board in boards:
                self._heard(board)
            if (state := (head.state, head.wave, head.reason)) != self._said:
                self._said = state
                self._state(self._whole())
            self._draw()

    def judged(self, verdict: GateVerdict) -> None:
        """What a gate said."""
        with self._turn:
            assert self._head is not None
            if self._json_to is not None:
                self._emit(events.line_of(events.gate_event(verdict, self._head.rollout_id)))
            else:
                self._say(f"gate after wave {verdict.wave}: {gate_line(verdict)}")
            self._draw()

    def bytes(self, board: str, there: int, of: int) -> None:
        """What a board has of what it is sent; from any thread."""
        with self._turn:
            self._speeds.sent(board, there, of, self._now())
            self._draw()

    def _whole(self) -> Rollout:
        assert self._head is not None
        return dataclasses.replace(self._head, boards=tuple(self._boards.values()))

    def _heard(self, board: BoardProgress) -> None:
        assert self._head is not None
        before = self._boards.get(board.board)
        self._boards[board.board] = board
        if board.state in SETTLED:
            self._speeds.ended(board.board)
        if self._json_to is not None:
            self._emit(events.line_of(events.board_event(board, self._head.rollout_id)))
        elif board.state in SETTLED and (before is None or before.state != board.state):
            self._say(board_line(board, self._head))

    def _state(self, rollout: Rollout) -> None:
        if self._json_to is not None:
            self._emit(events.line_of(events.rollout_event(rollout, self._now())))
        elif self._live is None:
            self._say(f"{headline(rollout)} {rollout.reason}".strip())

    def _draw(self) -> None:
        """The table anew, some times a second at most: rows are made of all boards."""
        if self._live is None or self._head is None or self._now() - self._drawn_at < _FRAME_SECONDS:
            return
        self._drawn_at = self._now()
        self._live.update(live_view(self._whole(), self._speeds), refresh=True)

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def _emit(self, line: str) -> None:
        """A reader that has left ends nothing: boards are being changed."""
        assert self._json_to is not None
        with contextlib.suppress(BrokenPipeError):
            self._json_to.write(line)
            self._json_to.flush()


def json_view() -> RolloutView:
    """Events on stdout."""
    return RolloutView(json_to=sys.stdout)
