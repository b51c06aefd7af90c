"""What a board has and runs: the fields of `edgeopt.core.release.BoardRelease`, by looking and not by memory."""

import contextlib
import fcntl
import os
from typing import Any, Dict, Iterator, List, Optional, Set

from edgeopt_runner import transaction
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import IN_USE, ReleaseStore
from edgeopt_runner.updates import app_state

IDLE = "idle"
SAFE_STOP = "safe_stop"
_LOCKS = "/proc/locks"


def every(root: str, verify: bool) -> List[Dict[str, Any]]:
    """What is known of every app, also of one that is stopped; call `releases.recover` first.

    Args:
        root: The runner's root.
        verify: Hash the active files.
    """
    return [describe(store, verify) for store in stores(root) if store.numbers() or store.journal.last()]


def stores(root: str) -> Iterator[ReleaseStore]:
    """The apps of this board, by name."""
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(os.path.join(root, "apps"))):
            with contextlib.suppress(Refusal):
                yield ReleaseStore(root, name)


def describe(store: ReleaseStore, verify: bool) -> Dict[str, Any]:
    """What is known of one app.

    Args:
        store: The app.
        verify: Hash the active files; without it ``verified`` is false.
    """
    last = store.journal.last()
    state = app_state.remembered(store)
    current = store.pointer("current")
    manifest = _manifest(store, current)
    step = str(last.get("step", "committed"))
    return {
        "app": store.name,
        "version": manifest.get("version", ""),
        "counter": manifest.get("counter", 0),
        "manifest": manifest.get("manifest", ""),
        "model": manifest["files"]["model"]["sha256"] if manifest else "",
        "number": current or 0,
        "previous": _manifest(store, store.pointer("previous")).get("version", ""),
        "golden": _manifest(store, store.pointer("golden")).get("version", ""),
        "highest": state.counter,
        "running": running(store),
        "verified": verify and store.fit(current),
        "signed": bool(manifest.get("signed", False)),
        "state": SAFE_STOP if state.safe_stop else IDLE if step in transaction.DONE else step,
        "failed": state.failed,
        "figures": state.figures,
    }


def _manifest(store: ReleaseStore, number: Optional[int]) -> Dict[str, Any]:
    """A release's manifest; empty where there is none to read."""
    try:
        return store.manifest(number) if number is not None else {}
    except Refusal:
        return {}


def running(store: ReleaseStore) -> List[str]:
    """Digests of the models that applications hold open now, whatever `current` says."""
    held = [_manifest(store, number) for number in store.numbers() if is_held(store, number)]
    return sorted({manifest["files"]["model"]["sha256"] for manifest in held if manifest})


def is_held(store: ReleaseStore, number: int) -> bool:
    """Whether an application holds the lock of a release.

    The kernel's list is asked first: trying the lock would make an application that opens it just now wait.
    """
    path = os.path.join(store.folder(number), IN_USE)
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return False
    locked = _locked_inodes()
    return (locked is None or facts.st_ino in locked) and _is_locked(path)


def _locked_inodes() -> Optional[Set[int]]:
    """Inodes with a lock on them, on whatever file system; ``None`` where the kernel does not say.

    Lines are ``1: FLOCK ADVISORY READ 123 fe:00:4711 0 EOF``.
    """
    try:
        with open(_LOCKS) as stream:
            places = [line.split()[-3] for line in stream if line.count(":") >= 3]
        return {int(place.rpartition(":")[2]) for place in places}
    except (OSError, ValueError, IndexError):
        return None


def _is_locked(path: str) -> bool:
    try:
        with open(path, "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
