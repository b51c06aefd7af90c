"""Asks the boards of a fleet what they run, and keeps their answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Caps
from edgeopt.core.release import BoardRelease
from edgeopt.core.sighting import Sighting
from edgeopt.errors import EdgeoptError
from edgeopt.store.sightings import Sightings
from edgeopt.workflow.fleet.drift import Expected, drift_of, expected_by_board
from edgeopt.workflow.fleet.rollouts import recent_rollouts
from edgeopt.workflow.workspace import Workspace

Ask = Callable[[Device], Sequence[BoardRelease]]


@dataclass(frozen=True)
class BoardStatus:
    """A board, and what is not as it should be there.

    Attributes:
        sighting: What it answered, now or last.
        drift: One line each; empty where all is well.
    """

    sighting: Sighting
    drift: tuple[str, ...]


def sightings_of(workspace: Workspace) -> Sightings:
    """Where answers are kept: `boards.json` in the workspace's root."""
    return Sightings(workspace.root / "boards.json")


def ask_board(device: Device) -> Sequence[BoardRelease]:
    """What a board has, its files really hashed there.

    Raises:
        DeviceError: It cannot be reached, or its answer is none.
    """
    from edgeopt.remote.board import BoardClient
    from edgeopt.remote.client import connect

    with connect(device) as connection:
        return BoardClient(connection).releases(verify=True)


def fleet_status(
    boards: Sequence[Board],
    workspace: Workspace,
    *,
    ask: Ask = ask_board,
    heard: Callable[[Sighting], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    caps: Caps | None = None,
) -> tuple[BoardStatus, ...]:
    """Ask every board; one that does not answer is an answer, not an error.

    Args:
        boards: Those to ask.
        workspace: Where answers and rollouts are kept.
        ask: How to ask one.
        heard: Told of each as it answers; called from several threads, one at a time.
        now: Seconds since the epoch.
        caps: How many at once, in all and behind one jump host.

    Returns:
        In the order of `boards`.

    Raises:
        StoreError: The answers cannot be kept, or the rollouts not be read.
    """
    limits = caps or Caps()
    jumps: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(limits.per_jump))
    lock = threading.Lock()

    def look(board: Board) -> Sighting:
        with jumps[board.device.jump] if board.device.jump else contextlib.nullcontext():
            found = _sighting(board, ask, now)
        with lock:
            heard(found)
        return found

    with ThreadPoolExecutor(max_workers=max(1, min(limits.concurrency, len(boards)))) as pool:
        found = tuple(pool.map(look, boards))
    kept = sightings_of(workspace).remember(found)
    expected = expected_by_board(recent_rollouts(workspace))
    return tuple(_status(sighting, expected.get(sighting.board, {})) for sighting in kept)


def _sighting(board: Board, ask: Ask, now: Callable[[], float]) -> Sighting:
    try:
        releases = tuple(ask(board.device))
    except EdgeoptError as error:
        return Sighting(board.name, board.profile, False, now(), detail=error.message)
    moment = now()
    return Sighting(board.name, board.profile, True, moment, moment, "", releases)


def _status(sighting: Sighting, expected: dict[str, Expected]) -> BoardStatus:
    return BoardStatus(sighting, drift_of(sighting, expected))
