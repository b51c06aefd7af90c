"""Boards of one kind at work, each in a thread of its own; who vanishes leaves its work to the others.

A board that fails drops out of this run, with the reason; what it measured is in the ledger all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from edgeopt.core.device import Device, DeviceFacts
from edgeopt.errors import DeviceError
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.tuning import Board

Item = TypeVar("Item")
T = TypeVar("T")


@dataclass
class Member:
    """A board of a kind.

    Attributes:
        device, facts: Who it is.
        board: The launches that it did, or had done before.
        lost: Why it dropped out; empty while it works.
    """

    device: Device
    facts: DeviceFacts
    board: Board = field(default_factory=Board)
    lost: DeviceError | None = None
    _bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """The board, connected and leased."""
        assert self._bench is not None, "the board is not connected"
        return self._bench

    def connected(self, bench: Bench) -> None:
        """From now on it can work."""
        self._bench = bench


@dataclass
class Crew:
    """The boards of one kind.

    Attributes:
        members: In the order in which they were named.
        listener: Hears who drops out.
    """

    members: Sequence[Member]
    listener: Listener

    @property
    def working(self) -> list[Member]:
        """Those that have not dropped out."""
        return [member for member in self.members if member.lost is None]

    def deal(self, items: Sequence[Item], do: Callable[[Member, Item], object]) -> None:
        """Have each item done by one board; what a board leaves behind is dealt out again.

        Raises:
            DeviceError: The last board has dropped out.
        """
        left = list(items)
        while left:
            crew = self._some()
            shares = [left[place :: len(crew)] for place in range(len(crew))]
            with ThreadPoolExecutor(len(crew), thread_name_prefix="edgeopt-board") as threads:
                behind = list(threads.map(lambda one, share: self._work(one, share, do), crew, shares))
            left = [item for items in behind for item in items]

    def everywhere(self, do: Callable[[Member], T]) -> dict[str, T]:
        """Have something done by every board; what came of it, by the names of those that did.

        Raises:
            DeviceError: The last board has dropped out.
        """
        crew, found = self._some(), dict[str, T]()

        def once(member: Member, _: None) -> None:
            found[member.device.name] = do(member)

        with ThreadPoolExecutor(len(crew), thread_name_prefix="edgeopt-board") as threads:
            list(threads.map(lambda member: self._work(member, [None], once), crew))
        self._some()
        return {member.device.name: found[member.device.name] for member in crew if member.device.name in found}

    def _some(self) -> list[Member]:
        if crew := self.working:
            return crew
        reasons = [member.lost for member in self.members if member.lost is not None]
        raise reasons[-1]

    def _work(self, member: Member, items: Sequence[Item], do: Callable[[Member, Item], object]) -> Sequence[Item]:
        """One board's share; returns what is left of it."""
        for place, item in enumerate(items):
            try:
                do(member, item)
            except DeviceError as error:
                self.lose(member, error)
                return items[place:]
        return ()

    def lose(self, member: Member, error: DeviceError) -> None:
        """A board drops out."""
        member.lost = error
        others = "the others of its kind take over its work" if self.working else "it was the last of its kind"
        self.listener.note(f"{member.device.name} drops out: {error.message} ({others})")


class Stopped(BaseException):
    """The user has interrupted the run; ends the threads at their next step."""


class Shared:
    """A listener that several boards tell at the same time.

    Args:
        listener: Who hears all of it, one after the other.
        prefix: Who tells, such as a board's name; empty: all of them.
        other: Shares its lock and its end with this one.
    """

    def __init__(self, listener: Listener, prefix: str = "", other: Shared | None = None) -> None:
        self._listener, self._prefix = listener, f"{prefix}: " if prefix else ""
        self._lock: threading.RLock = other._lock if other else threading.RLock()
        self._stop: threading.Event = other._stop if other else threading.Event()

    def named(self, name: str) -> Shared:
        """The same for one board."""
        return Shared(self._listener, name, self)

    def stop(self) -> None:
        """End whoever tells of a step from now on."""
        self._stop.set()

    def stage(self, name: str, total: int) -> None:
        """A stage of one board is not one of the run; its steps are told with the board's name."""
        if not self._prefix:
            with self._lock:
                self._listener.stage(name, total)

    def advance(self, text: str) -> None:
        """Pass on.

        Raises:
            Stopped: The user has interrupted the run.
        """
        if self._stop.is_set():
            raise Stopped
        with self._lock:
            self._listener.advance(f"{self._prefix}{text}")

    def detail(self, text: str) -> None:
        """Pass on."""
        with self._lock:
            self._listener.detail(f"{self._prefix}{text}")

    def note(self, text: str) -> None:
        """Pass on."""
        with self._lock:
            self._listener.note(f"{self._prefix}{text}")
