"""One change of an app's active release, journalled: the switch, the look at what runs there, and the way back.

    staging -> switching -> switched -> committed         the way it should go
       |           |            |
    aborted     returning <-----+ -> returned             anything else: as before

Each word is a line of the journal, synced before the deed that it names. What was interrupted before `committed` is
undone: the host sends the same job again, and a release that was never seen healthy must not stay. Serving the new
release until someone looks was the alternative; it calls an update done that may not run.
"""

import contextlib
import uuid
from typing import Any, Callable, Dict, Iterator

from edgeopt_runner import faults, protocol
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import ReleaseStore

Check = Callable[[Dict[str, Any]], Dict[str, Any]]
"""Runs a ``check`` job in a guarded worker and returns its result document."""

DONE = ("committed", "aborted", "returned")
"""Last steps of a transaction."""


def begin(store: ReleaseStore, target: int, kind: str) -> Dict[str, Any]:
    """The journal's record of a transaction: where it goes, and what was before."""
    return {
        "transaction": uuid.uuid4().hex,
        "kind": kind,
        "target": target,
        "current": store.pointer("current"),
        "previous": store.pointer("previous"),
        "highest": max(target, store.next_number() - 1),
    }


def note(store: ReleaseStore, record: Dict[str, Any], step: str, detail: str = "") -> None:
    """Write a step of a transaction into the journal; durable when this returns."""
    store.journal.append(dict(record, step=step, detail=detail[:500]))


def switch(store: ReleaseStore, record: Dict[str, Any], check: Check, job: Dict[str, Any]) -> str:
    """Lead `current` to the target, look whether it is healthy there, and commit; else lead it back."""
    faults.point("release.switching", match=store.name)
    note(store, record, "switching")
    with _returning(store, record):
        faults.point("release.previous", match=store.name)
        store.point("previous", record["current"])
        faults.point("release.current", match=store.name)
        store.point("current", record["target"])
        faults.point("release.switched", match=store.name)
        note(store, record, "switched")
        faults.point("release.health", match=store.name)
        store.verify(record["target"])
        verdict = examine(store, record["target"], check, job)
        faults.point("release.commit", match=store.name)
        note(store, record, "committed", verdict)
    faults.point("release.prune", match=store.name)
    with contextlib.suppress(OSError):
        store.prune()
    return "release %d is active; %s" % (record["target"], verdict)


@contextlib.contextmanager
def _returning(store: ReleaseStore, record: Dict[str, Any]) -> Iterator[None]:
    """Undo the switch when the block fails, whatever the failure."""
    try:
        yield
    except Refusal as error:
        _return(store, record, error.message)
        before = "nothing is active" if record["current"] is None else "release %d is active again" % record["current"]
        raise Refusal(error.code, "%s; %s" % (error.message, before), error.remedy)
    except BaseException as error:
        _return(store, record, repr(error))
        raise


def examine(store: ReleaseStore, number: int, check: Check, job: Dict[str, Any]) -> str:
    """Run a release on its golden inputs; returns what was seen, in words.

    Raises:
        Refusal: It does not run right (`health_failed`), or the job was cancelled.
    """
    manifest = store.manifest(number)
    store.offer(number)
    model, health = manifest["files"]["model"], manifest["health"]
    artifact = {"sha256": model["sha256"], "size": model["size"], "format": manifest["format"]}
    asked = {"kind": "check", "artifact": artifact, "settings": manifest["settings"], "limits": job.get("limits")}
    result = check(dict(asked, golden=manifest["files"]["golden"]["sha256"], **health))
    status, found = result.get("status"), result.get("check") or {}
    if status == protocol.OK and found.get("passed"):
        return "cosine %.6f, median %.3f ms" % (found.get("cosine") or 0.0, (found.get("median_ns") or 0) / 1e6)
    if status == protocol.CANCELLED:
        raise Refusal(protocol.CANCELLED, "cancelled while release %d of %s was checked" % (number, store.name))
    reason = found.get("reason") or "its outputs are not right"
    if status != protocol.OK:
        reason = "%s: %s" % (status, result.get("detail") or "no more is known")
    raise Refusal(protocol.HEALTH_FAILED, "release %d of %s is not healthy: %s" % (number, store.name, reason))


def undo(store: ReleaseStore) -> None:
    """Bring an interrupted transaction, if there is one, to its end: everything as before."""
    record = store.journal.last()
    step = record.pop("step", "committed")
    reason = record.pop("detail", "") or "interrupted while %s" % step
    if step == "staging":
        abort(store, record, reason)
    elif step not in DONE:
        _return(store, record, reason)
    store.sweep()


def abort(store: ReleaseStore, record: Dict[str, Any], reason: str) -> None:
    """End a transaction that touched no pointer."""
    store.sweep()
    store.discard(record["target"])
    note(store, record, "aborted", reason)


def _return(store: ReleaseStore, record: Dict[str, Any], reason: str) -> None:
    """Lead the pointers back to where they were; may be done any number of times."""
    faults.point("release.returning", match=store.name)
    note(store, record, "returning", reason)
    store.point("current", record["current"])
    faults.point("release.return", match=store.name)
    store.point("previous", record["previous"])
    if record["kind"] == "activate":
        store.discard(record["target"])
    faults.point("release.returned", match=store.name)
    note(store, record, "returned", reason)
