"""Drives a rollout: one thread decides and writes, one more for every board under way, as the state machine asks.

What is begun is written first, so that after ``kill -9`` the same command knows which boards to ask what is true.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import getpass
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol
from zoneinfo import ZoneInfo

from edgeopt.core.fleet import Board, Fleet
from edgeopt.core.rollout import BoardProgress, GateVerdict, Rollout
from edgeopt.errors import UsageError
from edgeopt.fleet.caps import TokenBucket
from edgeopt.fleet.patience import Patience
from edgeopt.fleet.rollout import ENDED, RolloutMachine, Step
from edgeopt.fleet.windows import opens_at
from edgeopt.store.rollouts import LEASE_SECONDS, RolloutStore
from edgeopt.workflow.fleet.board_steps import Errand, recheck_board, update_board
from edgeopt.workflow.fleet.engine_faults import point
from edgeopt.workflow.fleet.engine_interrupts import Interrupts, interrupts
from edgeopt.workflow.fleet.engine_port import Connect, Order

_GATHER_SECONDS = 0.02
_LONGEST_WAIT_SECONDS = 0.5
_Work = Callable[[Errand, Connect], BoardProgress]


class Watcher(Protocol):
    """Hears of a rollout, in the thread that drives it but for `bytes`."""

    def moved(self, head: Rollout, boards: tuple[BoardProgress, ...]) -> None:
        """The rollout, without its boards, and those that stand otherwise."""

    def judged(self, verdict: GateVerdict) -> None:
        """What a gate said."""

    def bytes(self, board: str, there: int, of: int) -> None:
        """What a board has of what it is sent; from any thread."""


class Silence:
    """A watcher that does nothing."""

    def moved(self, head: Rollout, boards: tuple[BoardProgress, ...]) -> None:
        """Nothing."""

    def judged(self, verdict: GateVerdict) -> None:
        """Nothing."""

    def bytes(self, board: str, there: int, of: int) -> None:
        """Nothing."""


def this_holder() -> str:
    """This process, as leases name it."""
    return f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Terms:
    """How a rollout is driven.

    Attributes:
        holder: Who drives it.
        takeover: Whether to take it from whoever does.
        patience: For boards that are away.
        lease_seconds: How long the lease lasts without us.
        clock: Seconds since the epoch.
    """

    holder: str = field(default_factory=this_holder)
    takeover: bool = False
    patience: Patience = field(default_factory=Patience)
    lease_seconds: float = LEASE_SECONDS
    clock: Callable[[], float] = time.time


def drive(
    store: RolloutStore,
    rollout_id: str,
    fleet: Fleet,
    connect: Connect,
    terms: Terms | None = None,
    watcher: Watcher | None = None,
) -> Rollout:
    """Take a rollout as far as it goes: to its end, to a halt, or until the user stops it.

    Args:
        store: Where it is kept.
        rollout_id: The rollout; a halted one goes on only where it was told to (`RolloutStore.order`).
        fleet: The inventory, for places and windows.
        connect: Reaches a board.
        terms: How.
        watcher: Hears of it.

    Returns:
        The rollout as it stands then.

    Raises:
        RolloutBusyError: Somebody else drives it, or has taken it over.
        StoreError: The database fails.
        EdgeoptError: Something that no board is to blame for, for example a file of the release that is gone.
    """
    terms = terms or Terms()
    point("lease.before")
    seconds, now = terms.lease_seconds, terms.clock()
    fence = store.take(rollout_id, terms.holder, now=now, seconds=seconds, takeover=terms.takeover)
    point("lease.after")
    try:
        with interrupts() as asked, _what_stays():
            return _Engine(store, rollout_id, fleet, connect, terms, watcher or Silence()).run(asked)
    finally:
        store.give_back(rollout_id, fence)


@contextlib.contextmanager
def _what_stays() -> Iterator[None]:
    """Have the collector pass over what lives as long as the rollout: ten thousand boards cost a step 50 ms each time.

    Python's documentation of `gc.freeze`; what is made inside the block is collected as ever.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Engine:
    def __init__(
        self, store: RolloutStore, rollout_id: str, fleet: Fleet, connect: Connect, terms: Terms, watcher: Watcher
    ) -> None:
        self._store, self._connect, self._terms, self._watcher = store, connect, terms, watcher
        self._boards = {board.name: board for board in fleet.boards}
        self._zones: dict[str, dt.tzinfo] = {}
        places = {name: (board.device.jump or "", board.site) for name, board in self._boards.items()}
        rollout = store.rollout(rollout_id)
        self._plan = rollout.plan
        self._machine = RolloutMachine(rollout, places, self._opens, terms.patience)
        self._news: queue.SimpleQueue[tuple[BoardProgress, bool] | BaseException] = queue.SimpleQueue()
        self._bucket = TokenBucket(self._plan.caps.bytes_per_second, time.monotonic())
        self._bucket_turn = threading.Lock()
        self._ordering = threading.Event()
        self._renew_at = terms.clock() + terms.lease_seconds / 3
        self._look_at = 0.0
        self._kept = self._machine.head

    def run(self, asked: Interrupts) -> Rollout:
        """Until nothing is under way and nothing more will begin."""
        self._machine.begin(self._terms.clock())
        wait = 0.0
        while asked.count < 2:
            self._hear(wait)
            if asked.count:
                self._machine.drain()
            obeyed = self._obey()
            step = self._machine.tick(self._terms.clock())
            self._keep(step, obeyed)
            self._launch(step)
            if self._machine.resting and (self._machine.head.state != "paused" or asked.count):
                break
            wait = self._wait(step)
        self._ordering.clear()
        return self._machine.rollout

    # what comes in

    def _hear(self, wait: float) -> None:
        """Take in what the boards' threads say; a moment's worth of it, so that it is written together."""
        try:
            said = [self._news.get(timeout=wait)] if wait > 0 else []
        except queue.Empty:
            return
        if said:
            time.sleep(_GATHER_SECONDS)
        while not self._news.empty():
            said.append(self._news.get())
        for word in said:
            if isinstance(word, BaseException):
                self._machine.drain()
                raise word
            progress, over = word
            self._machine.report(progress, over=over, now=self._terms.clock())

    def _obey(self) -> str:
        """Look for an operator's order now and then, and keep the lease; returns the order that was carried out."""
        now = self._terms.clock()
        if now >= self._renew_at:
            self._store.renew(self._machine.head.rollout_id, self._fence, now=now, seconds=self._terms.lease_seconds)
            self._renew_at = now + self._terms.lease_seconds / 3
        if now < self._look_at:
            return ""
        self._look_at = now + _LONGEST_WAIT_SECONDS
        command, who = self._store.ordered(self._machine.head.rollout_id)
        if command and self._machine.head.state not in ENDED:
            self._machine.order(command, who, now)
        return command

    @property
    def _fence(self) -> int:
        return self._machine.head.fence

    # what goes out

    def _keep(self, step: Step, obeyed: str) -> None:
        """Write down what changed, before anything is begun.

        It is told first: the log rather has a line twice, after ``kill -9`` in between, than a gate without a line.
        """
        head, moment = self._machine.head, _moment(self._kept, self._machine.head, step)
        changed = head != self._kept or step.changed or obeyed
        if changed:
            point(f"{moment}.before")
        self._tell(self._kept, head, step)
        if changed:
            self._store.save(head, step.changed, obeyed=obeyed)
            point(f"{moment}.after")
        self._kept = head
        if self._machine.may_order:
            self._ordering.set()
        else:
            self._ordering.clear()

    def _tell(self, before: Rollout, head: Rollout, step: Step) -> None:
        """The boards, what a gate says of them, and where that leads, in this order."""
        if step.gate is None:
            if head != before or step.changed:
                self._watcher.moved(head, step.changed)
            return
        if step.changed:
            self._watcher.moved(before, step.changed)
        self._watcher.judged(step.gate)
        if head != before:
            self._watcher.moved(head, ())

    def _launch(self, step: Step) -> None:
        for work, boards in ((update_board, step.start), (recheck_board, step.recheck)):
            for progress in boards:
                errand = self._errand(progress)
                name = f"edgeopt-board-{progress.board}"
                threading.Thread(target=self._work, args=(work, errand), name=name, daemon=True).start()

    def _work(self, work: _Work, errand: Errand) -> None:
        """A board's thread: whatever happens, the driver hears of its end."""
        try:
            self._news.put((work(errand, self._connect), True))
        except BaseException as error:
            self._news.put(error)

    def _errand(self, progress: BoardProgress) -> Errand:
        board = self._boards.get(progress.board)
        return Errand(
            progress,
            self._order(progress),
            self._ordering.is_set,
            self._throttle,
            lambda there, of: self._watcher.bytes(progress.board, there, of),
            lambda further: self._news.put((further, False)),
            board.window if board else None,
            self._zone(board) if board and board.zone else None,
            self._terms.clock,
        )

    def _order(self, progress: BoardProgress) -> Order:
        app, _, version = self._plan.release.partition("@")
        return Order(
            rollout=self._machine.head.rollout_id,
            board=progress.board,
            app=app,
            version=version,
            manifest=self._plan.manifest,
            target=f"releases/{app}/{version}.json",
            profile=progress.profile,
            fence=self._fence,
            number=progress.orders,
            insecure_unsigned=self._plan.insecure_unsigned,
        )

    def _throttle(self, count: int) -> None:
        with self._bucket_turn:
            wait = self._bucket.take(count, time.monotonic())
        if wait:
            time.sleep(wait)

    def _opens(self, name: str, now: float) -> float:
        """When a board's window is open; one whose time zone nobody knows is asked, and says so itself."""
        board = self._boards.get(name)
        if board is None or board.window is None or not board.zone:
            return now
        try:
            return opens_at(board.window, now, self._zone(board))
        except UsageError:
            return math.inf

    def _zone(self, board: Board) -> dt.tzinfo:
        if board.zone not in self._zones:
            self._zones[board.zone] = ZoneInfo(board.zone)
        return self._zones[board.zone]

    def _wait(self, step: Step) -> float:
        if step.start or step.recheck or step.gate:
            return 0.001
        due = math.inf if step.next_at is None else step.next_at - self._terms.clock()
        return min(max(due, 0.001), _LONGEST_WAIT_SECONDS)


def _moment(before: Rollout, head: Rollout, step: Step) -> str:
    """Which fault point a transaction is at."""
    if head.state in (*ENDED, "halted") and head.state != before.state:
        return "end"
    if step.gate is not None:
        return "gate"
    if head.state == "soaking" != before.state:
        return "soak"
    return "begin" if before.state == "planned" else "boards"
