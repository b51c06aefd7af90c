"""The devices that the user added: `devices.yaml` in edgeopt's home."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from edgeopt.core.device import LOCAL, Device
from edgeopt.documents import decode, plain, read_yaml, write_yaml
from edgeopt.errors import DocumentError, UnknownDeviceError, UsageError
from edgeopt.remote.lockfile import locked
from edgeopt.remote.ssh_config import config_aliases, parse_address, user_config

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Inventory:
    """The file of devices.

    Args:
        path: The file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._more: tuple[Device, ...] = ()

    def knowing(self, *devices: Device) -> Inventory:
        """The same where `resolve` also finds these, such as boards of a fleet that are in no file of devices."""
        other = Inventory(self.path)
        other._more = devices
        return other

    def devices(self) -> tuple[Device, ...]:
        """The devices, in the order in which they were added; without ``local``.

        Raises:
            DocumentError: The file does not parse or does not fit.
        """
        if not self.path.exists():
            return ()
        document = read_yaml(self.path)
        entries = document.get("devices") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise DocumentError(f"{self.path}: there is no list `devices`.", remedy="Correct it, or take it away.")
        found = tuple(self._device(entry, number) for number, entry in enumerate(entries, 1))
        names = [device.name for device in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DocumentError(f"{self.path}: {twice[0]!r} is there twice.", remedy="Rename one of them.")
        return found

    def _device(self, entry: Any, number: int) -> Device:
        where = f"{self.path}: device {number}"
        values = {"transport": "ssh", **entry} if isinstance(entry, dict) else entry
        unknown = sorted(set(values) - _FIELDS) if isinstance(values, dict) else []
        if unknown:
            raise DocumentError(f"{where}: {unknown[0]!r} is no field.", remedy=f"Known: {', '.join(sorted(_FIELDS))}.")
        device: Device = decode(Device, values, where=where, remedy="Correct it there.")
        _check_name(device.name)
        return device

    def find(self, name: str) -> Device:
        """The device of that name; ``local`` is this machine.

        Raises:
            UnknownDeviceError: There is none.
        """
        devices = self.devices()
        for device in (LOCAL, *devices):
            if device.name == name:
                return device
        known = ", ".join(device.name for device in devices) or "none yet"
        raise UnknownDeviceError(
            f"there is no device {name!r} (known: {known}).", remedy=f"Add it: edgeopt device add {name} user@host"
        )

    def add(self, device: Device) -> None:
        """Remember a device; one of the same name is replaced.

        Raises:
            UsageError: Its name cannot be used.
        """
        _check_name(device.name)
        with locked(self.path):
            devices = {known.name: known for known in self.devices()}
            self._write({**devices, device.name: device})

    def remove(self, name: str) -> None:
        """Forget a device.

        Raises:
            UnknownDeviceError: There is none of that name.
        """
        with locked(self.path):
            devices = {known.name: known for known in self.devices()}
            if name not in devices:
                self.find(name)
                raise UsageError("local cannot be removed.", remedy="It is this machine.")
            del devices[name]
            self._write(devices)

    def _write(self, devices: dict[str, Device]) -> None:
        write_yaml(self.path, {"devices": [_short(device) for device in devices.values()]})

    def resolve(self, target: str) -> Device | None:
        """The device that a user means: ``local``, a name, ``user@host[:port]`` or an alias of ssh_config.

        Returns:
            ``None`` where it is none of these.

        Raises:
            UsageError: It has an ``@`` but is no address.
            DocumentError: The inventory or ssh_config does not parse.
        """
        for device in (LOCAL, *self._more, *self.devices()):
            if device.name == target:
                return device
        if "@" in target:
            user, host, port = parse_address(target)
            return Device(name=target, transport="ssh", host=host, port=port, user=user)
        if target in config_aliases(user_config()):
            return Device(name=target, transport="ssh", host=target)
        return None


_FIELDS = frozenset(field.name for field in dataclasses.fields(Device))


def _short(device: Device) -> dict[str, Any]:
    """The fields that differ from the defaults."""
    defaults = plain(Device(name="", transport="ssh"))
    return {name: value for name, value in plain(device).items() if value != defaults[name]}


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == LOCAL.name:
        raise UsageError(
            f"{name!r} cannot be a device's name.", remedy="Take letters, digits, dots and dashes; not `local`."
        )
