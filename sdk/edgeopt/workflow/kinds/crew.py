"""Boards of one kind at work, each in a thread of its own; who vanishes leaves its work to the others.

A board that fails drops out of this run, with the reason; what it measured is in the ledger all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from edgeopt.core.device import Device, DeviceFacts
from edgeopt.errors import DeviceError
from edgeopt.workflow.kinds.shared import Shared
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
        said: Hears who drops out.
    """

    members: Sequence[Member]
    said: Shared

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
            working = [partial(self._work, one, share, do) for one, share in zip(crew, shares, strict=True)]
            behind = self.said.at_once(working, "edgeopt-board")
            left = [item for items in behind for item in items]

    def everywhere(self, do: Callable[[Member], T]) -> dict[str, T]:
        """Have something done by every board; what came of it, by the names of those that did.

        Raises:
            DeviceError: The last board has dropped out.
        """
        crew, found = self._some(), dict[str, T]()

        def once(member: Member, _: None) -> None:
            found[member.device.name] = do(member)

        self.said.at_once([partial(self._work, member, [None], once) for member in crew], "edgeopt-board")
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
        self.said.note(f"{member.device.name} drops out: {error.message} ({others})")
