"""Activating a release, going back to the previous one, and putting things right after an interruption.

    staging -> switching -> switched -> committed         the way it should go
       |           |            |
    aborted     returning <-----+ -> returned             anything else: as before

Each word is a line of the journal, synced before the deed that it names. What was interrupted before `committed` is
undone: the host sends the same job again, and a release that was never seen healthy must not stay. Serving the new
release until someone looks was the alternative; it calls an update done that may not run.
"""

import contextlib
import os
import time
import uuid
from typing import Any, Callable, Dict, Iterator, List, Optional

from edgeopt_runner import faults, protocol, storage
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import ReleaseStore

Check = Callable[[Dict[str, Any]], Dict[str, Any]]
_DONE = ("committed", "aborted", "returned")


def activate(root: str, job: Dict[str, Any], check: Check) -> Dict[str, Any]:
    """Make the artifact of `job` the active release of its app, or leave everything as it was.

    Args:
        root: The runner's folder.
        job: An ``activate`` job of `edgeopt_runner.protocol`.
        check: Runs a ``check`` job in a guarded worker and returns its result document.

    Returns:
        ``status``, ``detail`` and ``deployment``: what is active now (``None`` where nothing is).
    """
    return _answer(root, job, lambda store: _activate(store, job, check))


def rollback(root: str, job: Dict[str, Any], check: Check) -> Dict[str, Any]:
    """Exchange the active release of an app and the previous one; arguments and result as for `activate`."""
    return _answer(root, job, lambda store: _rollback(store, job, check))


def apps(root: str) -> List[Dict[str, Any]]:
    """Every app with an active release: the fields of the verb ``apps``; puts right what was interrupted."""
    try:
        names = sorted(os.listdir(os.path.join(root, "apps")))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            recover(root, name)
            row = _row(ReleaseStore(root, name))
        except Refusal:
            continue
        if row:
            found.append(row)
    return found


def recover(root: str, app: str) -> None:
    """Undo what was interrupted; nothing happens while an activation is under way, or where all is well."""
    store = ReleaseStore(root, app)
    if store.journal.last().get("step", "committed") in _DONE:
        return
    with contextlib.suppress(Refusal, OSError), store.locked():
        _recover(store)


def _row(store: ReleaseStore) -> Optional[Dict[str, Any]]:
    current = store.pointer("current")
    if current is None:
        return None
    manifest = store.manifest(current)
    return {
        "app": store.name,
        "current": current,
        "previous": store.pointer("previous"),
        "sha256": manifest["files"]["model"]["sha256"],
        "settings": manifest["settings"],
        "created": manifest["created"],
        "healthy": store.journal.last().get("step") in _DONE and store.intact(current),
    }


def _answer(root: str, job: Dict[str, Any], act: Callable[[ReleaseStore], str]) -> Dict[str, Any]:
    """Run `act` on the recovered, locked app and turn its outcome into a result."""
    store = None
    try:
        store = ReleaseStore(root, job.get("app"))
        with store.locked():
            _recover(store)
            status, detail = protocol.OK, act(store)
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
        status, detail = refusal.code, " ".join(filter(None, (refusal.message, refusal.remedy)))
    return {"status": status, "detail": detail, "deployment": _deployment(store, detail)}


def _deployment(store: Optional[ReleaseStore], detail: str) -> Optional[Dict[str, Any]]:
    try:
        row = _row(store) if store else None
    except Refusal:
        row = None
    if row is None:
        return None
    fields = {key: row[key] for key in ("app", "previous", "sha256", "healthy")}
    return dict(fields, release=row["current"], detail=detail)


def _activate(store: ReleaseStore, job: Dict[str, Any], check: Check) -> str:
    manifest = _new_manifest(store, job)
    current = store.pointer("current")
    if current is not None and _same(store, current, manifest):
        return "release %d is active already" % current
    record = _record(store, manifest["release"], "activate")
    _note(store, record, "staging")
    try:
        faults.point("release.stage", match=store.name)
        store.stage(manifest, record["transaction"])
        faults.point("release.smoke", match=store.name)
        _examine(store, record["target"], check, job)
    except Exception as error:
        _abort(store, record, str(error))
        raise
    return _switch(store, record, check, job)


def _rollback(store: ReleaseStore, job: Dict[str, Any], check: Check) -> str:
    target = store.pointer("previous")
    if store.pointer("current") is None:
        raise Refusal(protocol.UNKNOWN_APP, "this device has no app %s" % store.name)
    if target is None:
        raise Refusal(protocol.NO_PREVIOUS, "%s has no previous release to go back to" % store.name, "Deploy another.")
    store.verify(target)  # before anything moves; `_switch` looks again after
    return _switch(store, _record(store, target, "rollback"), check, job)


def _new_manifest(store: ReleaseStore, job: Dict[str, Any]) -> Dict[str, Any]:
    """The manifest of the release that `job` asks for; sizes are filled in when the files are there."""
    try:
        artifact, golden, settings = job["artifact"], storage.check_digest(job["golden"]), job["settings"]
        digest, kind = storage.check_digest(artifact["sha256"]), str(artifact["format"])
    except (KeyError, TypeError) as error:
        raise Refusal(protocol.BAD_REQUEST, "an activate job without %s" % error)
    if not kind.isalnum():
        raise Refusal(protocol.BAD_REQUEST, "%.40r is not a model format" % kind)
    model = {"name": "model.%s" % kind, "sha256": digest}
    return {
        "schema": 1,
        "app": store.name,
        "release": store.next_number(),
        "created": time.time(),
        "format": kind,
        "settings": settings,
        "health": {key: job.get(key) for key in ("min_cosine", "max_latency_ns", "runs")},
        "files": {"model": model, "golden": {"name": "golden.npz", "sha256": golden}},
    }


def _same(store: ReleaseStore, number: int, wanted: Dict[str, Any]) -> bool:
    """Whether release `number` is what `wanted` describes, undamaged."""
    try:
        found = store.verify(number)
    except Refusal:
        return False
    digests = [manifest["files"]["model"]["sha256"] for manifest in (found, wanted)]
    return bool(digests[0] == digests[1]) and bool(found["settings"] == wanted["settings"])


def _record(store: ReleaseStore, target: int, kind: str) -> Dict[str, Any]:
    """The journal's record of a transaction: where it goes, and what was before."""
    return {
        "transaction": uuid.uuid4().hex,
        "kind": kind,
        "target": target,
        "current": store.pointer("current"),
        "previous": store.pointer("previous"),
        "highest": max(target, store.next_number() - 1),
    }


def _note(store: ReleaseStore, record: Dict[str, Any], step: str, detail: str = "") -> None:
    store.journal.append(dict(record, step=step, detail=detail[:500]))


def _switch(store: ReleaseStore, record: Dict[str, Any], check: Check, job: Dict[str, Any]) -> str:
    """Lead `current` to the target, look whether it is healthy there, and commit; else lead it back."""
    faults.point("release.switching", match=store.name)
    _note(store, record, "switching")
    with _returning(store, record):
        faults.point("release.previous", match=store.name)
        store.point("previous", record["current"])
        faults.point("release.current", match=store.name)
        store.point("current", record["target"])
        faults.point("release.switched", match=store.name)
        _note(store, record, "switched")
        faults.point("release.health", match=store.name)
        store.verify(record["target"])
        verdict = _examine(store, record["target"], check, job)
        faults.point("release.commit", match=store.name)
        _note(store, record, "committed", verdict)
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


def _examine(store: ReleaseStore, number: int, check: Check, job: Dict[str, Any]) -> str:
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


def _recover(store: ReleaseStore) -> None:
    record = store.journal.last()
    step = record.pop("step", "committed")
    reason = record.pop("detail", "") or "interrupted while %s" % step
    if step == "staging":
        _abort(store, record, reason)
    elif step not in _DONE:
        _return(store, record, reason)
    store.sweep()


def _abort(store: ReleaseStore, record: Dict[str, Any], reason: str) -> None:
    """End a transaction that touched no pointer."""
    store.sweep()
    store.discard(record["target"])
    _note(store, record, "aborted", reason)


def _return(store: ReleaseStore, record: Dict[str, Any], reason: str) -> None:
    """Lead the pointers back to where they were; may be done any number of times."""
    faults.point("release.returning", match=store.name)
    _note(store, record, "returning", reason)
    store.point("current", record["current"])
    faults.point("release.return", match=store.name)
    store.point("previous", record["previous"])
    if record["kind"] == "activate":
        store.discard(record["target"])
    faults.point("release.returned", match=store.name)
    _note(store, record, "returned", reason)
