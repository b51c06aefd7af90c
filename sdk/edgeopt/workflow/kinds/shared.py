"""What the threads of one run share: who hears of their steps, and the end that an error in one makes for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from edgeopt.workflow.listener import Listener

T = TypeVar("T")


class Stopped(BaseException):
    """The run has been interrupted, or has failed elsewhere; ends the threads at their next step."""


class Shared:
    """A listener that several boards tell at the same time.

    Args:
        listeners: Who hear all of it, one thing after the other.
        prefix: Who tells, such as a board's name; empty: all of them.
        other: Shares its lock and its end with this one.
    """

    def __init__(self, *listeners: Listener, prefix: str = "", other: Shared | None = None) -> None:
        self._listeners, self._prefix = listeners, f"{prefix}: " if prefix else ""
        self._lock: threading.RLock = other._lock if other else threading.RLock()
        self._stop: threading.Event = other._stop if other else threading.Event()

    def named(self, name: str) -> Shared:
        """The same for one board."""
        return Shared(*self._listeners, prefix=name, other=self)

    def also(self, listener: Listener) -> Shared:
        """The same, which one more hears."""
        return Shared(*self._listeners, listener, other=self)

    def at_once(self, calls: Sequence[Callable[[], T]], name: str) -> list[T]:
        """Call all, each in a thread; where one fails, the others end at their next step and its error is raised.

        Args:
            calls: At least one.
            name: Of the threads.

        Returns:
            What each gave, in their order.
        """
        with ThreadPoolExecutor(len(calls), thread_name_prefix=name) as threads:
            running = [threads.submit(call) for call in calls]
            try:
                ended, _ = wait(running, return_when=FIRST_EXCEPTION)
            except BaseException:  # Ctrl-C
                self.stop()
                raise
            if any(one.exception() for one in ended):
                self.stop()
        errors = [error for one in running if (error := one.exception())]
        errors.sort(key=lambda error: isinstance(error, Stopped))  # which is never the reason
        if errors:
            raise errors[0]
        return [one.result() for one in running]

    def stop(self) -> None:
        """End whoever tells of a step from now on."""
        self._stop.set()

    def stage(self, name: str, total: int) -> None:
        """A stage of one board is not one of the run; its steps are told with the board's name."""
        if not self._prefix:
            self._tell(lambda one: one.stage(name, total))

    def advance(self, text: str) -> None:
        """Pass on.

        Raises:
            Stopped: The run has been interrupted, or has failed elsewhere.
        """
        self._go_on()
        self._tell(lambda one: one.advance(f"{self._prefix}{text}"))

    def detail(self, text: str) -> None:
        """Pass on; what trains for an hour tells nothing else meanwhile.

        Raises:
            Stopped: As in `advance`.
        """
        self._go_on()
        self._tell(lambda one: one.detail(f"{self._prefix}{text}"))

    def note(self, text: str) -> None:
        """Pass on."""
        self._tell(lambda one: one.note(f"{self._prefix}{text}"))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _tell(self, tell: Callable[[Listener], None]) -> None:
        with self._lock:
            for listener in self._listeners:
                tell(listener)
