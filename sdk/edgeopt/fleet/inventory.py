"""`fleet.yaml` as boards: what each says, completed by its groups and the defaults. Plain data in, nouns out.

The file has ``defaults:``, ``groups:`` (by name) and ``boards:`` (by name). A board says ``group:`` or ``groups:``, may
take a device of `devices.yaml` with ``device:``, and wins over it; that wins over the board's groups, the last of which
wins over the first.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Fleet
from edgeopt.errors import DocumentError, EdgeoptError
from edgeopt.fleet.windows import parse_window

Place = tuple[str | int, ...]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXTS = ("host", "user", "jump", "site", "profile", "window", "zone", "root", "key", "python")
_FIELDS = (*_TEXTS, "port", "labels")
_OF_BOARD = ("device", "group", "groups")
_OF_DEVICE = {
    **{name: name for name in ("host", "user", "jump", "profile", "root", "python", "port")},
    "key": "identity_file",
}


class _Reader:
    """Decodes one document and knows on which line everything stands."""

    def __init__(self, where: str, lines: Mapping[Place, int], devices: Mapping[str, Device]) -> None:
        self._where, self._lines, self._devices = where, lines, devices

    def problem(self, place: Place, message: str, remedy: str) -> DocumentError:
        line = next((self._lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self._lines), 0)
        return DocumentError(f"{self._where}{f':{line}' if line else ''}: {message}.", remedy=remedy)

    def mapping(self, document: Any, place: Place) -> dict[str, Any]:
        """An object; nothing is an empty one."""
        if document is None:
            return {}
        if not isinstance(document, dict):
            said = f"{'.'.join(map(str, place)) or 'the document'} is {str(document)[:60]!r}"
            raise self.problem(place, said, "It is to be names with values under them.")
        return {str(key): value for key, value in document.items()}

    def known(self, entry: Mapping[str, Any], names: tuple[str, ...], place: Place) -> None:
        for name in entry:
            if name not in names:
                raise self.problem((*place, name), f"{name!r} is no field", f"Known: {', '.join(names)}.")

    def fields(self, document: Any, place: Place, more: tuple[str, ...] = ()) -> dict[str, Any]:
        """The fields of a board, a group or the defaults, each of its type."""
        entry = self.mapping(document, place)
        self.known(entry, (*_FIELDS, *more), place)
        for name in _TEXTS:
            if name in entry and not isinstance(entry[name], str):
                remedy = f"Write it in quotes: {name}: '{entry[name]}'."
                raise self.problem((*place, name), f"{name} is {str(entry[name])[:60]!r}, which is no text", remedy)
        port = entry.get("port", 22)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise self.problem((*place, "port"), f"port is {str(port)[:60]!r}", "Give a number from 1 to 65535.")
        entry["labels"] = self._labels(entry.get("labels"), (*place, "labels"))
        return entry

    def _labels(self, document: Any, place: Place) -> dict[str, str]:
        """Labels with values, or a list of words, which have the value `yes`."""
        if isinstance(document, list):
            document = {str(word): "yes" for word in document}
        labels = self.mapping(document, place)
        for name, value in labels.items():
            if not _NAME.fullmatch(name) or isinstance(value, (dict, list)) or value is None:
                raise self.problem(
                    (*place, name), f"the label {name!r} is {str(value)[:60]!r}", "Give a word or number."
                )
        return {name: _word(value) for name, value in labels.items()}

    def board(self, name: str, entry: dict[str, Any], groups: Mapping[str, Any], defaults: Mapping[str, Any]) -> Board:
        place: Place = ("boards", name)
        if not _NAME.fullmatch(name) or name == "local":
            raise self.problem(place, f"{name!r} cannot be a board's name", "Take letters, digits, dots and dashes.")
        merged: dict[str, Any] = {"labels": {}}
        device = self._device(entry, place)
        own = _said(device) if device else {}
        for layer in (defaults, *(groups[group] for group in self._groups(entry, groups, place)), own, entry):
            labels = {**merged["labels"], **layer.get("labels", {})}
            merged = {**merged, **layer, "labels": labels}
        return self._made(name, merged, device, place)

    def _groups(self, entry: Mapping[str, Any], groups: Mapping[str, Any], place: Place) -> list[str]:
        asked = entry.get("groups", [])
        named = [entry["group"]] if "group" in entry else asked if isinstance(asked, list) else [asked]
        for group in named:
            if group not in groups:
                known = ", ".join(groups) or "none"
                raise self.problem((*place, "group"), f"there is no group {str(group)[:60]!r}", f"Groups: {known}.")
        return named

    def _device(self, entry: Mapping[str, Any], place: Place) -> Device | None:
        if "device" not in entry:
            return None
        if entry["device"] not in self._devices:
            known = ", ".join(self._devices) or "none"
            said = f"there is no device {str(entry['device'])[:60]!r}"
            raise self.problem((*place, "device"), said, f"Known: {known}. Add it: edgeopt device add NAME user@host.")
        return self._devices[entry["device"]]

    def _made(self, name: str, fields: Mapping[str, Any], device: Device | None, place: Place) -> Board:
        known = device or Device(name=name, transport="ssh", host=name)
        said = {of: fields[ours] for ours, of in _OF_DEVICE.items() if ours in fields}
        labels = {**known.labels, **fields["labels"]}
        made = dataclasses.replace(known, name=name, labels=labels, **said)
        try:
            window = parse_window(fields["window"]) if fields.get("window") else None
        except EdgeoptError as error:
            raise self.problem((*place, "window"), error.message.rstrip("."), error.remedy) from None
        return Board(made, fields.get("site", ""), window, fields.get("zone", ""))


def _said(device: Device) -> dict[str, Any]:
    """What a device says of itself, as the fields of a board."""
    default = Device(name="", transport="ssh")
    return {ours: getattr(device, of) for ours, of in _OF_DEVICE.items() if getattr(device, of) != getattr(default, of)}


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def decode_fleet(
    document: Any, *, where: str, lines: Mapping[Place, int] | None = None, devices: Mapping[str, Device] | None = None
) -> Fleet:
    """The boards of a `fleet.yaml`.

    Args:
        document: What the parser of YAML made of it.
        where: The file, for messages.
        lines: Line of every place in it (`documents.yaml_lines`).
        devices: Of `devices.yaml`, by name.

    Raises:
        DocumentError: It does not fit; names the line.
    """
    reader = _Reader(where, lines or {}, devices or {})
    top = reader.mapping(document, ())
    reader.known(top, ("defaults", "groups", "boards"), ())
    defaults = reader.fields(top.get("defaults"), ("defaults",))
    named = reader.mapping(top.get("groups"), ("groups",))
    groups = {name: reader.fields(entry, ("groups", name)) for name, entry in named.items()}
    boards = []
    for name, entry in reader.mapping(top.get("boards"), ("boards",)).items():
        fields = reader.fields(entry, ("boards", name), _OF_BOARD)
        boards.append(reader.board(name, fields, groups, defaults))
    if not boards:
        raise reader.problem((), "there are no boards", "Write them under `boards:`, each by its name.")
    return Fleet(tuple(boards))


def fleet_document(fleet: Fleet, window_text: Callable[[Any], str]) -> dict[str, Any]:
    """A fleet as `decode_fleet` takes it; every board says all of its own.

    Args:
        fleet: The boards.
        window_text: `windows.window_text`.
    """
    return {"boards": {board.name: _entry(board, window_text) for board in fleet.boards}}


def _entry(board: Board, window_text: Callable[[Any], str]) -> dict[str, Any]:
    device, entry = board.device, _said(board.device)
    entry.update({"site": board.site} if board.site else {})
    entry.update({"window": window_text(board.window)} if board.window else {})
    entry.update({"zone": board.zone} if board.zone else {})
    return {**entry, **({"labels": dict(device.labels)} if device.labels else {})}
