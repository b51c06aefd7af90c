"""Asks the boards of a fleet what they run, takes what others reported, and keeps both."""

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
from edgeopt.core.sighting import BoardStatus, Sighting
from edgeopt.errors import EdgeoptError
from edgeopt.remote.hostkeys import twins
from edgeopt.store.sightings import Sightings
from edgeopt.workflow.fleet.clones import clone_notes
from edgeopt.workflow.fleet.drift import after_offers, drift_of, expected_by_board
from edgeopt.workflow.fleet.reported import Reports
from edgeopt.workflow.fleet.rollouts import standing_rollouts
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol.hardware import marks_in


@dataclass(frozen=True)
class Answer:
    """What a board answers.

    Attributes:
        releases: What it has.
        hardware: Marks of its hardware.
    """

    releases: tuple[BoardRelease, ...]
    hardware: tuple[str, ...] = ()


Ask = Callable[[Device], Answer]


def sightings_of(workspace: Workspace) -> Sightings:
    """Where answers are kept: `boards.json` in the workspace's root."""
    return Sightings(workspace.root / "boards.json")


def ask_board(device: Device) -> Answer:
    """What a board is, and what it has, its files really hashed there.

    Raises:
        DeviceError: It cannot be reached, or its answer is none.
    """
    from edgeopt.remote.board import BoardClient
    from edgeopt.remote.client import connect

    with connect(device) as connection:
        releases = BoardClient(connection).releases(verify=True)
        return Answer(tuple(releases), tuple(marks_in(connection.hello.get("hardware"))))


def fleet_status(
    boards: Sequence[Board],
    workspace: Workspace,
    *,
    ask: Ask = ask_board,
    heard: Callable[[Sighting], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    caps: Caps | None = None,
    reports_url: str = "",
) -> tuple[BoardStatus, ...]:
    """Ask every board that has not reported; one that does not answer is an answer, not an error.

    Args:
        boards: Those to ask.
        workspace: Where answers and rollouts are kept.
        ask: How to ask one.
        heard: Told of each as it answers; called from several threads, one at a time.
        now: Seconds since the epoch.
        caps: How many at once, in all and behind one jump host.
        reports_url: Where boards that pull put their reports; empty: all are asked.

    Returns:
        In the order of `boards`.

    Raises:
        UsageError: `reports_url` is no address.
        StoreError: The answers cannot be kept, or the rollouts or the reports not be read.
    """
    limits, reports = caps or Caps(), Reports.read(reports_url, workspace, now())
    jumps: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(limits.per_jump))
    lock = threading.Lock()

    def look(board: Board) -> Sighting:
        found = reports.sighting(board)
        if found is None:
            with jumps[board.device.jump] if board.device.jump else contextlib.nullcontext():
                found = _sighting(board, ask, now)
        with lock:
            heard(found)
        return found

    with ThreadPoolExecutor(max_workers=max(1, min(limits.concurrency, len(boards)))) as pool:
        found = tuple(pool.map(look, boards))
    before = {one.board: one for one in sightings_of(workspace).all()}
    kept = sightings_of(workspace).remember(found)
    expected, alike = expected_by_board(standing_rollouts(workspace)), twins([board.device for board in boards])
    clones = clone_notes(kept, before, alike)

    def status(sighting: Sighting) -> BoardStatus:
        name = sighting.board
        wanted = after_offers(expected.get(name, {}), reports.offered(name))
        notes = (*reports.notes(name, reachable=sighting.reachable), *clones[name])
        return BoardStatus(sighting, (*drift_of(sighting, wanted), *reports.problems(name)), notes)

    return tuple(status(sighting) for sighting in kept)


def _sighting(board: Board, ask: Ask, now: Callable[[], float]) -> Sighting:
    try:
        answer = ask(board.device)
    except EdgeoptError as error:
        return Sighting(board.name, board.profile, False, now(), detail=error.message)
    moment = now()
    return Sighting(board.name, board.profile, True, moment, moment, releases=answer.releases, hardware=answer.hardware)
