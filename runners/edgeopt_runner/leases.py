"""Who has the board for the next while: a lease with an owner, a reason and an end, beside the board's lock.

The lock serialises jobs; the lease keeps one owner's series of jobs (and pauses between them) together, and tells the
others whom they wait for. Times are those of the monotonic clock, because boards without a battery jump in wall time.
"""

import fcntl
import json
import os
import time
from typing import Any, Dict, Optional, Tuple

from edgeopt_runner import processes
from edgeopt_runner.locks import board_lock_path, open_shared

MAX_SECONDS = 3600.0
_LIMIT_BYTES = 4096
_TEXT_LIMIT = 200
_FIELDS: Dict[str, Any] = {
    "owner": str,
    "host": str,
    "reason": str,
    "since": (int, float),
    "expires": (int, float),
    "until_monotonic": (int, float),
    "boot_id": str,
}


def lease_path(root: str) -> str:
    """The lease file: next to the board's lock, so that all accounts see one lease."""
    return board_lock_path(root) + ".lease"


class _LeaseFile:
    """The lease file, locked for one read-modify-write; in place, as a sticky folder forbids renames over others'."""

    def __init__(self, root: str) -> None:
        self._path = lease_path(root)

    def __enter__(self) -> "_LeaseFile":
        self._descriptor = open_shared(self._path)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exception: Any) -> None:
        os.close(self._descriptor)

    def read(self) -> Optional[Dict[str, Any]]:
        """The live lease, if there is one; what is none counts as none, for all accounts may write here."""
        try:
            lease = json.loads(os.pread(self._descriptor, _LIMIT_BYTES, 0).decode("utf-8"))
            whole = all(isinstance(lease[name], kind) for name, kind in _FIELDS.items())
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        live = whole and lease["boot_id"] == processes.boot_id()
        left_seconds = lease["until_monotonic"] - time.monotonic() if live else 0.0
        return lease if 0 < left_seconds <= MAX_SECONDS else None

    def write(self, lease: Dict[str, Any]) -> None:
        """Make `lease` the lease; an empty dictionary for none."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(lease).encode("utf-8"), 0)


def _public(lease: Dict[str, Any]) -> Dict[str, Any]:
    return {key: lease[key] for key in ("owner", "host", "reason", "since", "expires")}


def belongs(lease: Optional[Dict[str, Any]], owner: Dict[str, str]) -> bool:
    """Whether a lease is that owner's."""
    return lease is not None and (lease["owner"], lease["host"]) == (owner["owner"], owner["host"])


def take(root: str, owner: Dict[str, str], seconds: float) -> Tuple[bool, Dict[str, Any], bool]:
    """Take or renew the lease.

    Args:
        root: The runner's root.
        owner: ``owner``, ``host`` and ``reason``.
        seconds: How long it lasts from now, at most `MAX_SECONDS`.

    Returns:
        Whether it is the owner's now; the live lease; whether the owner had it already.
    """
    with _LeaseFile(root) as file:
        current = file.read()
        if current is not None and not belongs(current, owner):
            return False, _public(current), False
        seconds, now, monotonic = min(float(seconds), MAX_SECONDS), time.time(), time.monotonic()
        lease: Dict[str, Any] = {key: owner[key][:_TEXT_LIMIT] for key in ("owner", "host", "reason")}
        until = monotonic + seconds
        if current is not None:
            until = max(until, current["until_monotonic"])  # a job's heartbeat never shortens what the host asked for
            lease["reason"] = current["reason"] or lease["reason"]
        since = current["since"] if current is not None else now
        lease.update(since=since, expires=now + until - monotonic, until_monotonic=until, boot_id=processes.boot_id())
        file.write(lease)
        return True, _public(lease), current is not None


def give_back(root: str, owner: Dict[str, str]) -> bool:
    """End the owner's lease; False when it has none."""
    with _LeaseFile(root) as file:
        mine = belongs(file.read(), owner)
        if mine:
            file.write({})
        return mine


def current(root: str) -> Optional[Dict[str, Any]]:
    """The live lease (``owner, host, reason, since, expires``), if there is one."""
    if not os.path.exists(lease_path(root)):
        return None
    with _LeaseFile(root) as file:
        lease = file.read()
    return _public(lease) if lease is not None else None


def described(lease: Optional[Dict[str, Any]]) -> str:
    """``owner@host: reason`` for those who wait."""
    if lease is None:
        return "another job"
    who = "%s@%s" % (lease["owner"], lease["host"])
    return "%s: %s" % (who, lease["reason"]) if lease["reason"] else who
