"""Reads fleets: `fleet.yaml`, Ansible's inventories, hosts of ssh_config, and the devices of `devices.yaml`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Fleet
from edgeopt.documents import read_yaml, write_yaml, yaml_lines
from edgeopt.errors import DocumentError, UsageError
from edgeopt.fleet.ansible import decode_ini, decode_tree
from edgeopt.fleet.inventory import decode_fleet, fleet_document
from edgeopt.fleet.windows import window_text
from edgeopt.remote.inventory import Inventory
from edgeopt.remote.ssh_config import config_aliases, user_config

FLEET_FILE = "fleet.yaml"


def read_fleet(path: Path, inventory: Inventory | None = None) -> Fleet:
    """The boards of a `fleet.yaml`; where there is none, the devices of the inventory.

    Args:
        path: The file.
        inventory: The devices that boards may refer to.

    Raises:
        DocumentError: It cannot be read or does not fit; names the line.
        UsageError: There is neither a file nor a device.
    """
    devices = {device.name: device for device in inventory.devices()} if inventory else {}
    if not path.exists():
        if not devices:
            raise UsageError(
                f"there is no {path} and no device.",
                remedy="Add one: edgeopt device add NAME user@host; or many: edgeopt fleet import ansible hosts.ini",
            )
        return Fleet(tuple(_board_of(device) for device in devices.values()))
    document = read_yaml(path)
    return _checked(decode_fleet(document, where=str(path), lines=yaml_lines(path), devices=devices), str(path))


def _board_of(device: Device) -> Board:
    return Board(device, device.labels.get("site", ""))


def _checked(fleet: Fleet, where: str) -> Fleet:
    """The fleet, when every time zone is one that this computer knows."""
    for zone in {board.zone for board in fleet.boards if board.zone}:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise DocumentError(f"{where}: {zone!r} is no time zone.", remedy="For example Europe/Oslo.") from None
    return fleet


def import_ansible(path: Path) -> Fleet:
    """The boards of an inventory of Ansible's, by what the file is: INI, YAML or JSON.

    Raises:
        DocumentError: It cannot be read, does not fit, or would have to be run.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DocumentError(f"cannot read {path}: {why}.", remedy="Give one inventory file.") from None
    if stat.S_ISREG(mode) and os.access(path, os.X_OK) and text.startswith("#!"):
        return decode_ini(text, where=str(path))  # which refuses it, with the remedy
    if path.suffix == ".json" or text.lstrip().startswith("{"):
        return _checked(decode_tree(_json(text, path), where=str(path)), str(path))
    if path.suffix in (".yaml", ".yml"):
        return _checked(decode_tree(read_yaml(path), where=str(path)), str(path))
    return _checked(decode_ini(text, where=str(path)), str(path))


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not JSON: {error}.", remedy="Export it again.") from None


def import_ssh_config(path: Path | None = None) -> Fleet:
    """Every host that the user's ssh_config names without a pattern; how it is reached stays there.

    Raises:
        DocumentError: The file does not parse, or names no host.
    """
    config = path or user_config()
    names = sorted(config_aliases(config))
    if not names:
        raise DocumentError(f"{config} names no host.", remedy="Write Host entries, or add boards to fleet.yaml.")
    return Fleet(tuple(Board(Device(name=name, transport="ssh", host=name)) for name in names))


def write_fleet(path: Path, fleet: Fleet) -> None:
    """Write a fleet as `fleet.yaml`, atomically; never over one that is there.

    Raises:
        UsageError: There is one.
    """
    if path.exists():
        raise UsageError(f"{path} is there already.", remedy="Move it away, or name another: --fleet FILE.")
    write_yaml(path, fleet_document(fleet, window_text))
