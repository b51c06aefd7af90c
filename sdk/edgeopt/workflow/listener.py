"""Whom the workflow tells what it does: a progress display, a log, or nobody."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Receives the steps of a run; `edgeopt.report.terminal.Progress` is one."""

    def stage(self, name: str, total: int) -> None:
        """A stage with `total` steps begins; 0 where the number is not known."""

    def advance(self, text: str) -> None:
        """One step of the stage is done; `text` says which."""

    def detail(self, text: str) -> None:
        """What the current step is at."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


class Silence:
    """A listener for callers who want results only."""

    def stage(self, name: str, total: int) -> None:
        """Ignore."""

    def advance(self, text: str) -> None:
        """Ignore."""

    def detail(self, text: str) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
