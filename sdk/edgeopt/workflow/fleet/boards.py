"""The boards of a fleet for commands: the file that names them, what is known of them, and enrolling them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from edgeopt import documents
from edgeopt.core.fleet import Board, Fleet
from edgeopt.core.sighting import Sighting
from edgeopt.errors import UsageError
from edgeopt.fleet.inventory import fleet_document
from edgeopt.fleet.selectors import select_boards
from edgeopt.fleet.windows import window_text
from edgeopt.remote import hostkeys
from edgeopt.workflow import devices
from edgeopt.workflow.enrolling import enrol_device
from edgeopt.workflow.fleet.auditing import audit_log, deed
from edgeopt.workflow.fleet.inventory_file import FLEET_FILE, read_fleet
from edgeopt.workflow.fleet.status import sightings_of
from edgeopt.workflow.workspace import Workspace


def load_fleet(workspace: Workspace, path: Path | None = None) -> Fleet:
    """All boards.

    Args:
        workspace: Its devices stand in where there is no file; what boards said of themselves completes their profiles.
        path: A `fleet.yaml`; by default that of this folder, else that of the workspace.

    Raises:
        DocumentError: It cannot be read or does not fit.
        UsageError: There is neither a file nor a device, or the file that was named is not there.
    """
    if path is not None and not path.exists():
        raise UsageError(f"there is no {path}.", remedy="Write one: edgeopt fleet import ansible hosts.ini.")
    fleet = read_fleet(path or fleet_path(workspace), workspace.inventory)
    known = {one.board: one.profile for one in sightings_of(workspace).all()}
    return Fleet(tuple(_with_profile(board, known.get(board.name, "")) for board in fleet.boards))


def fleet_path(workspace: Workspace) -> Path:
    """`fleet.yaml` of this folder where there is one, else of the workspace."""
    here = Path(FLEET_FILE)
    return here if here.exists() else workspace.root / FLEET_FILE


def fleet_text(fleet: Fleet) -> str:
    """A fleet as `fleet.yaml`."""
    return documents.yaml_text(fleet_document(fleet, window_text))


def _with_profile(board: Board, profile: str) -> Board:
    if board.profile or not profile:
        return board
    return dataclasses.replace(board, device=dataclasses.replace(board.device, profile=profile))


def select(fleet: Fleet, selector: str) -> tuple[Board, ...]:
    """The boards that a selector names; all where it is empty.

    Raises:
        UsageError: It is no selector, or names none.
    """
    return select_boards(fleet.boards, selector or "all")


@dataclasses.dataclass(frozen=True)
class EnrolledBoard:
    """A board that believes our releases.

    Attributes:
        board: Its name.
        profile: What it is.
        root_version: Of the root that it trusts.
        fingerprint: Of its host key, where that was pinned now; else empty.
    """

    board: str
    profile: str
    root_version: int
    fingerprint: str = ""


def enrol_board(
    board: Board,
    workspace: Workspace,
    *,
    confirm: Callable[[str], bool],
    replace: bool = False,
    now: Callable[[], float] = time.time,
) -> EnrolledBoard:
    """Pin a board's host key where that is not done yet, have it pin our root of trust, and note what it is.

    Args:
        board: The board.
        workspace: Whose keys.
        confirm: Asks whether a host key that nobody knows is right.
        replace: The board trusts another root: forget that.
        now: Seconds since the epoch.

    Raises:
        UnknownHostKeyError: Its key was not confirmed.
        SigningError: There are no keys yet.
        RunnerError: It trusts another root.
        DeviceError: It cannot be reached.
    """
    device, fingerprint = board.device, ""
    if device.transport == "ssh" and not hostkeys.pinned(device):
        fingerprint = devices.trust_device(device, fingerprint=None, confirm=confirm, replace=False)
    why = "its root is replaced" if replace else ""
    with deed(audit_log(workspace), "board.enrol", board.name, why, now=now):
        enrolled = enrol_device(device, workspace, replace=replace)
    profile = board.profile or devices.probe_device(device)[1].name
    _remember(board.name, profile, workspace, now())
    return EnrolledBoard(board.name, profile, enrolled.root_version, fingerprint)


def _remember(board: str, profile: str, workspace: Workspace, moment: float) -> None:
    """Note that a board answered, and what it is; what it runs stays as it was said last."""
    sightings = sightings_of(workspace)
    known = next((one.releases for one in sightings.all() if one.board == board), ())
    sightings.remember([Sighting(board, profile, True, moment, moment, "", known)])
