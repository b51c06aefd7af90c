"""The audit log: who changed what in the fleet and why, one JSON line each, chained by SHA-256.

Each line holds the hash of the line before it, so that a line that was changed, moved or taken out no longer fits. A
chain cannot tell that its end was cut off: `<name>.head` beside the file therefore names the last line. Somebody who
can write both files can rewrite all of it; the head's hash, kept elsewhere (`audit verify --expect`), shows that too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edgeopt.documents import decode_json, write_atomically
from edgeopt.errors import DocumentError, StoreError, UsageError

AUDIT_FILE = "audit.jsonl"
"""Name of the log in edgeopt's home."""

START = "0" * 64
"""What the first line has for the hash of the line before it."""

_WHAT = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
_TEXT_LIMIT = 2000
_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        n: Its number, from 1.
        time: Seconds since the epoch, by this computer's clock.
        who: ``user@host``.
        what: ``publish``, ``rollout.start``, ``keys.rotate``, ...
        subject: What was changed: a release, a rollout, a board, a role.
        why: Reason or details, in words.
        previous: Hash of the line before; `START` for the first.
        hash: SHA-256 of all of the above as canonical JSON.
    """

    n: int
    time: float
    who: str
    what: str
    subject: str
    why: str
    previous: str
    hash: str = ""


@dataclass(frozen=True)
class Verdict:
    """What checking the chain found.

    Attributes:
        lines: Lines that fit, from the first.
        head: Hash of the last of them; `START` where there is none.
        broken: Number of the first line that does not fit; ``None`` where all do.
        reason: What is wrong with it; of a whole chain, what the reader should know (a torn last line); else empty.
    """

    lines: int
    head: str
    broken: int | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the chain is whole."""
        return self.broken is None


@dataclass(frozen=True)
class _Head:
    n: int
    hash: str


class AuditLog:
    """Appends to the log and checks it; two processes may append at once.

    Args:
        path: The file, made on first use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head_path = path.with_name(path.name + ".head")

    def append(self, what: str, subject: str, why: str = "", *, who: str, now: float) -> Entry:
        """Add a line; it is on disk when this returns.

        What a crash left of a line that nobody saw is taken away first.

        Args:
            what: A word or two with dots: ``rollout.pause``.
            subject: Release, rollout, board or role.
            why: In words; the first 2 000 characters are kept.
            who: ``user@host``.
            now: Seconds since the epoch.

        Raises:
            UsageError: `what` is not such a word.
            StoreError: The file cannot be written, or its end is not what the head says: it was tampered with.
        """
        if not _WHAT.fullmatch(what):
            raise UsageError(f"{what!r} is no kind of audit entry.", remedy="Use small letters, digits and dots.")
        who, subject, why = (_encodable(text)[:_TEXT_LIMIT] for text in (who, subject, why))
        with self._writing() as stream:
            last = self._settle(stream)
            entry = Entry(last.n + 1, now, who, what, subject, why, last.hash)
            entry = replace(entry, hash=_hash(entry))
            stream.write(_line(entry))
            stream.flush()
            os.fsync(stream.fileno())
            self._write_head(_Head(entry.n, entry.hash))
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Every line that can be read, oldest first; `verify` tells whether they fit.

        Raises:
            StoreError: The file cannot be read.
        """
        return tuple(entry for _, entry in self._read() if entry is not None)

    def verify(self) -> Verdict:
        """Check every line against the one before it, and the end against the head.

        Raises:
            StoreError: The file cannot be read.
        """
        head = self._head()
        last = _Head(0, START)
        for raw, entry in self._read():
            problem = _problem(entry, last, raw)
            if problem and not raw.endswith(b"\n") and (head is None or head.n == last.n):
                return Verdict(last.n, last.hash, None, f"line {last.n + 1} was torn by a crash; nobody relied on it")
            if problem or entry is None:
                return Verdict(last.n, last.hash, last.n + 1, problem)
            last = _Head(entry.n, entry.hash)
            if head is not None and head.n == last.n and head.hash != last.hash:
                return Verdict(last.n - 1, entry.previous, last.n, "it is another line than the head names: rewritten")
        return self._against_head(last, head)

    def _against_head(self, last: _Head, head: _Head | None) -> Verdict:
        if head is None and last.n > 1:
            return Verdict(last.n, last.hash, last.n, f"{self._head_path.name} is missing: the end may be cut off")
        if head is not None and head.n > last.n:
            reason = f"lines {last.n + 1} to {head.n} are cut off"
            return Verdict(last.n, last.hash, last.n + 1, reason)
        return Verdict(last.n, last.hash)

    def _settle(self, stream: BinaryIO) -> _Head:
        """The last line that holds; a torn one behind it is cut off."""
        head = self._head()
        size = stream.seek(0, os.SEEK_END)
        start = max(0, size - 2 * _LINE_BYTES)
        stream.seek(start)
        tail = stream.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        last = _parsed(lines[-1]) if lines else None
        found = _Head(last.n, last.hash) if last else _Head(0, START)
        if not _continues(head, found, last) or (lines and last is None):
            raise StoreError(
                f"the audit log {self.path} does not end as it should: it was changed.",
                remedy="See edgeopt fleet audit verify; move both files away to begin a new log.",
            )
        stream.truncate(start + len(whole))
        stream.seek(0, os.SEEK_END)
        return found

    def _head(self) -> _Head | None:
        try:
            return decode_json(_Head, self._head_path.read_bytes(), where=str(self._head_path))
        except FileNotFoundError:
            return None
        except (OSError, DocumentError):
            return _Head(-1, "")  # fits nothing

    def _write_head(self, head: _Head) -> None:
        write_atomically(self._head_path, json.dumps(asdict(head)).encode())

    def _read(self) -> Iterator[tuple[bytes, Entry | None]]:
        try:
            with open(self.path, "rb") as stream:
                while raw := stream.readline(_LINE_BYTES):
                    yield raw, _parsed(raw)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}.", remedy="Check its permissions.") from None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        """The file, locked; made for its owner only."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield stream
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"cannot write the audit log {self.path}: {error.strerror}.",
                remedy="Nothing is changed in a fleet without a line there: make it writable, or make room.",
            ) from None


def _encodable(text: str) -> str:
    """The text as UTF-8 can hold it: lone surrogates are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _hash(entry: Entry) -> str:
    fields = {name: value for name, value in asdict(entry).items() if name != "hash"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _parsed(raw: bytes) -> Entry | None:
    """The entry of a line exactly as `_line` writes it, or ``None``."""
    try:
        entry = decode_json(Entry, raw, where="audit log")
        return entry if _line(entry).rstrip() == raw.rstrip(b"\n") else None
    except (DocumentError, ValueError):
        return None


def _problem(entry: Entry | None, last: _Head, raw: bytes) -> str:
    """Why a line does not follow on `last`; empty where it does."""
    if entry is None or not raw.endswith(b"\n"):
        return "it is not a whole line of the log"
    if entry.hash != _hash(entry):
        return "it was changed: its hash does not fit its content"
    if entry.previous != last.hash or entry.n != last.n + 1:
        return f"it does not follow on line {last.n}: a line was taken out, put in or moved"
    return ""


def _continues(head: _Head | None, found: _Head, last: Entry | None) -> bool:
    """Whether the end of the file is the head, or the one line after it that a crash left without its head."""
    if head is None:
        return found.n <= 1
    return head == found or (last is not None and found.n == head.n + 1 and last.previous == head.hash)
