"""What a board does with releases: activate one, go back to the previous one, list them; see `transaction` for how."""

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner import faults, protocol, storage, transaction
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.transaction import Check


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
    if store.journal.last().get("step", "committed") in transaction.DONE:
        return
    with contextlib.suppress(Refusal, OSError), store.locked():
        transaction.undo(store)


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
        "healthy": store.journal.last().get("step") in transaction.DONE and store.intact(current),
    }


def _answer(root: str, job: Dict[str, Any], act: Callable[[ReleaseStore], str]) -> Dict[str, Any]:
    """Run `act` on the recovered, locked app and turn its outcome into a result."""
    store = None
    try:
        store = ReleaseStore(root, job.get("app"))
        with store.locked():
            transaction.undo(store)
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
    fields = {key: row[key] for key in ("app", "previous", "sha256", "settings", "healthy")}
    return dict(fields, release=row["current"], detail=detail)


def _activate(store: ReleaseStore, job: Dict[str, Any], check: Check) -> str:
    manifest = _new_manifest(store, job)
    current = store.pointer("current")
    if current is not None and _same(store, current, manifest):
        return "release %d is active already" % current
    record = transaction.begin(store, manifest["release"], "activate")
    transaction.note(store, record, "staging")
    try:
        faults.point("release.stage", match=store.name)
        store.stage(manifest, record["transaction"])
        faults.point("release.smoke", match=store.name)
        transaction.examine(store, record["target"], check, job)
    except Exception as error:
        transaction.abort(store, record, str(error))
        raise
    return transaction.switch(store, record, check, job)


def _rollback(store: ReleaseStore, job: Dict[str, Any], check: Check) -> str:
    target = store.pointer("previous")
    if store.pointer("current") is None:
        raise Refusal(protocol.UNKNOWN_APP, "this device has no app %s" % store.name)
    if target is None:
        raise Refusal(protocol.NO_PREVIOUS, "%s has no previous release to go back to" % store.name, "Deploy another.")
    store.verify(target)  # before anything moves; `_switch` looks again after
    return transaction.switch(store, transaction.begin(store, target, "rollback"), check, job)


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
