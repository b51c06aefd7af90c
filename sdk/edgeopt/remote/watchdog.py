"""One thread that ends calls on dead links: it shuts the wire down when nothing moved, or when a deadline passed.

Timeouts of the SSH library are not enough: a write to a silently dead link retries for ever inside it (facts: paramiko
hung more than 60 s with keepalive and with channel timeouts; shutting the socket ended it in 4 of 4 runs).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from edgeopt.errors import DeadlineError
from edgeopt.remote.failures import translate

_TICK_SECONDS = 0.1
_REMEDY = "Check the device and the network; what runs on the device goes on, and the same command collects it."


class Wire(Protocol):
    """What carries a link's bytes."""

    def moved(self) -> int | None:
        """A count that grows as bytes get through; ``None`` where silence means nothing."""

    def shut_down(self) -> None:
        """Break the wire at once, so that whatever waits on it fails; never blocks, never raises."""


@dataclass
class Watch:
    """One guarded call.

    Attributes:
        verdict: Why the wire was shut down; empty while it was not.
    """

    wire: Wire
    deadline: float
    deadline_seconds: float
    stall_seconds: float
    verdict: str = ""
    _count: int | None = None
    _last_move: float = field(default_factory=time.monotonic)

    def check(self, now: float) -> None:
        """Shut the wire down where its time is over."""
        count = self.wire.moved()
        if count is None or count != self._count:
            self._count, self._last_move = count, now
        if now >= self.deadline:
            self.verdict = f"not done after {self.deadline_seconds:g} s"
        elif now - self._last_move >= self.stall_seconds:
            self.verdict = f"no byte came through for {self.stall_seconds:g} s"
        if self.verdict:
            self.wire.shut_down()


class Watchdog:
    """Watches all guarded calls of the process with one thread, which lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[int, Watch] = {}
        self._numbers = itertools.count()
        self._running = False

    @contextlib.contextmanager
    def watching(self, wire: Wire, deadline_seconds: float, stall_seconds: float) -> Iterator[Watch]:
        """Watch `wire` for the length of the block."""
        watch = Watch(wire, time.monotonic() + deadline_seconds, deadline_seconds, stall_seconds)
        number = next(self._numbers)
        with self._lock:
            self._watches[number] = watch
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="edgeopt-watchdog", daemon=True).start()
        try:
            yield watch
        finally:
            with self._lock:
                self._watches.pop(number, None)

    def _run(self) -> None:
        idle_until = time.monotonic() + 1.0
        while True:
            time.sleep(_TICK_SECONDS)
            now = time.monotonic()
            with self._lock:
                watches = list(self._watches.values())
                if watches:
                    idle_until = now + 1.0
                elif now > idle_until:
                    self._running = False
                    return
            for watch in watches:
                if not watch.verdict:
                    watch.check(now)


WATCHDOG = Watchdog()
"""The one of this process; its thread starts with the first guarded call."""


@contextlib.contextmanager
def guarded(
    wire: Wire, where: str, *, deadline_seconds: float, stall_seconds: float, connected: bool = True
) -> Iterator[None]:
    """The rim: bounds the block in time and lets only our errors out of it.

    Args:
        wire: What is shut down when time is over.
        where: Device and what is being done, for messages.
        deadline_seconds: Total time allowed.
        stall_seconds: Longest silence allowed.
        connected: Whether the login has succeeded.

    Raises:
        DeadlineError: The deadline passed, or nothing moved.
        EdgeoptError: What `edgeopt.remote.failures` makes of the transport's exception.
    """
    with WATCHDOG.watching(wire, deadline_seconds, stall_seconds) as watch:
        try:
            yield
        except Exception as error:
            if watch.verdict:
                raise DeadlineError(f"{where}: {watch.verdict}.", remedy=_REMEDY) from error
            ours = translate(error, where, connected=connected)
            if ours is None or ours is error:
                raise
            raise ours from error
        if watch.verdict:
            raise DeadlineError(f"{where}: {watch.verdict}.", remedy=_REMEDY)
