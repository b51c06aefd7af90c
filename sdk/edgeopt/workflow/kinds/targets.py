"""Which boards a `--target` means that names several: devices with commas between, or a selector of the inventory."""

from __future__ import annotations

from pathlib import Path

from edgeopt.core.device import LOCAL, Device
from edgeopt.core.fleet import Board
from edgeopt.errors import UnknownDeviceError, UsageError
from edgeopt.fleet.selectors import select_boards
from edgeopt.remote.inventory import Inventory
from edgeopt.workflow.fleet.inventory_file import FLEET_FILE, read_fleet
from edgeopt.workflow.resolving import resolve_target, selects


def boards_named(target: str, inventory: Inventory, *, fleet: Path = Path(FLEET_FILE)) -> tuple[Device, ...]:
    """The boards of a list (``pi1,pi2,me@10.0.0.5``) or of a selector (``label=shop``, ``profile=jetson-*``).

    Selectors choose from `fleet.yaml` where there is one in the current folder, else from the devices of the inventory.

    Raises:
        UnknownDeviceError: A name in the list is nobody's, or a kind of hardware of which there is no device.
        UsageError: No board fits, or one is named twice.
        DocumentError: The inventory does not parse.
    """
    if selects(target):
        return tuple(board.device for board in select_boards(read_fleet(fleet, inventory).boards, target))
    known = {board.name: board.device for board in _fleet_of(fleet, inventory)}
    words = [word.strip() for word in target.split(",")]
    if not all(words):
        raise UsageError(f"--target {target!r} has an empty name in it.", remedy="Put names between the commas.")
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise UsageError(f"--target names {twice[0]!r} twice.", remedy="Name every board once.")
    found = [known[word] if word in known else _device_of(word, inventory) for word in words]
    names = [device.name for device in found]
    if again := [word for place, word in enumerate(words) if names[place] in names[:place]]:
        device = found[words.index(again[0])].name
        raise UsageError(f"--target {again[0]!r} is {device!r}, which is named already.", remedy="Name it once.")
    return tuple(found)


def _device_of(word: str, inventory: Inventory) -> Device:
    """What one word of a list means; this computer is never meant by the name of a kind of hardware."""
    device = resolve_target(word, inventory).device
    if device == LOCAL and word != LOCAL.name:
        raise UnknownDeviceError(
            f"--target {word!r} is a kind of hardware, and no device of the inventory is of it.",
            remedy="Add one: edgeopt device add NAME user@host; this computer is: local.",
        )
    return device


def _fleet_of(fleet: Path, inventory: Inventory) -> tuple[Board, ...]:
    return read_fleet(fleet, inventory).boards if fleet.exists() else ()
