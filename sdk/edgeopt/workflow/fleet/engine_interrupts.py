"""Ctrl-C while a rollout runs: once to finish what is under way, twice to leave it to the boards."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """How often the user has asked to stop."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """One more; a handler that only counts cannot tear a transaction apart."""
        self.count += 1


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Count them for the length of the block; outside the main thread there are none."""
    counting = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield counting
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, counting) for name in names]
    try:
        yield counting
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)
