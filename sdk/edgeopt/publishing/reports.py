"""Reads what boards that pull put into their store: the latest report of each, held against the board's own key.

Whoever may write to the store may write anything there: sizes are capped, text is cleaned, and a report that is not
signed by the key that was noted at the enrolment says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgeopt.core.release import BoardRelease
from edgeopt.documents import decode
from edgeopt.errors import DocumentError, ProtocolError
from edgeopt.publishing.tree import file_system, named
from edgeopt.remote.untrusted import checked, field, one_line
from edgeopt_runner.protocol.hardware import marks_in

LIMIT_BYTES = 128 << 10
MOST_BOARDS = 200_000
_NUMBER = re.compile(r"([1-9][0-9]{0,12})\.json")


@dataclass(frozen=True)
class BoardReport:
    """The latest report of a board.

    Attributes:
        board: Its name.
        number: Of the report.
        time: By the board's clock, in seconds since the epoch.
        authentic: Whether it is signed by the board's key; false also where no key is known.
        apps: What it runs.
        updates: By app: outcome and reason of what was offered last.
        trouble: Code of what keeps it from its store's metadata; empty: nothing.
        problem: Why the report cannot be read; the rest is empty then.
        hardware: Marks of the hardware that wrote it.
        moved: Whether that is other hardware than the board's disk was enrolled in.
        stored_at: When the store took it, in seconds since the epoch; 0 where the store does not say.
    """

    board: str
    number: int
    time: int = 0
    authentic: bool = False
    apps: tuple[BoardRelease, ...] = ()
    updates: Mapping[str, tuple[str, str]] | None = None
    trouble: str = ""
    problem: str = ""
    hardware: tuple[str, ...] = ()
    moved: bool = False
    stored_at: float = 0.0


def read_reports(url: str, keys: Mapping[str, str]) -> tuple[BoardReport, ...]:
    """The latest report of every board.

    Args:
        url: Folder that holds ``<board>/<n>.json``.
        keys: Public keys in hexadecimal, by board.

    Raises:
        UsageError: The address is none.
        ToolError: The package for that kind of store is not installed.
        StoreError: The store cannot be read.
    """
    with named(url):
        fs, base, _ = file_system(url)
        try:
            found = dict(list(fs.find(base, detail=True).items())[:MOST_BOARDS])
        except FileNotFoundError:
            found = {}
        latest: dict[str, int] = {}
        for path in found:
            folder, name = posixpath.split(path)
            match = _NUMBER.fullmatch(name)
            if match and posixpath.dirname(folder) == base.rstrip("/"):
                board = posixpath.basename(folder)
                latest[board] = max(latest.get(board, 0), int(match[1]))
        paths = {board: posixpath.join(base, board, f"{number}.json") for board, number in latest.items()}
        texts = {board: fs.cat_file(path, start=0, end=LIMIT_BYTES + 1) for board, path in paths.items()}
    return tuple(
        dataclasses.replace(
            read_report(board, latest[board], texts[board], keys.get(board, "")),
            stored_at=_stored_at(found.get(paths[board], {})),
        )
        for board in sorted(latest)
    )


def _stored_at(facts: Mapping[str, Any]) -> float:
    """When a file was written, as its store says: a folder has ``mtime``, S3 has ``LastModified``."""
    for name in ("mtime", "LastModified", "last_modified", "updated"):
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            value: Any = facts.get(name)
            return float(value.timestamp() if hasattr(value, "timestamp") else value)
    return 0.0


def read_report(board: str, number: int, data: bytes, key: str) -> BoardReport:
    """A report from its bytes; one that cannot be read is an answer, not an error."""
    name, where = one_line(board, 64), f"report {number} of {one_line(board, 64)}"
    try:
        if len(data) > LIMIT_BYTES:
            raise ProtocolError(f"{where} is longer than {LIMIT_BYTES} bytes.")
        envelope = json.loads(data)
        text = str(field(envelope, "payload", str, where))
        authentic = _is_signed(text.encode(), field(envelope, "signatures", list, where), key)
        payload = checked(json.loads(text), where)
        if (field(payload, "device_id", str, where), field(payload, "number", int, where)) != (board, number):
            raise ProtocolError(f"{where} is another one, put there by somebody.")
        return BoardReport(
            name,
            number,
            int(field(payload, "time", int, where)),
            authentic,
            tuple(decode(BoardRelease, row, where=where) for row in field(payload, "apps", list, where)),
            _updates(field(payload, "updates", dict, where)),
            one_line(str(payload.get("trouble") or "")),
            **_hardware(payload.get("hardware")),
        )
    except (ValueError, RecursionError, DocumentError, ProtocolError) as error:
        return BoardReport(name, number, problem=one_line(str(error)))


def _hardware(found: Any) -> dict[str, Any]:
    """What a report says of its hardware; reports of older agents say nothing."""
    told = found if isinstance(found, dict) else {}
    return {"hardware": tuple(marks_in(told.get("marks"))), "moved": told.get("moved") is True}


def _updates(found: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    rows = {app: row for app, row in found.items() if isinstance(row, dict)}
    return {
        one_line(app, 64): (one_line(str(row.get("outcome"))), one_line(str(row.get("reason") or "")))
        for app, row in rows.items()
    }


def _is_signed(message: bytes, signatures: list[Any], key: str) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(str(signatures[0]["sig"])), message)
    except (InvalidSignature, ValueError, LookupError, TypeError):
        return False
    return True
