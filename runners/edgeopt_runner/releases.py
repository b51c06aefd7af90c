"""What a board does with releases: activate one, go back to the previous one, list them; see `transaction` for how."""

import contextlib
import time
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner import faults, protocol, storage, transaction
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.trust import targets
from edgeopt_runner.updates import app_state, board_releases, health
from edgeopt_runner.updates.health import Check
from edgeopt_runner.updates.update import holder_of


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
    """Every app that is or should be active: the fields of the verb ``apps``; puts right what was interrupted."""
    recover_all(root)
    found = []
    for store in board_releases.stores(root):
        with contextlib.suppress(Refusal):
            row = _row(store) or _stopped_row(store)
            if row:
                found.append(row)
    return found


def recover_all(root: str) -> None:
    """Put every app right: at the first contact after whatever happened."""
    for store in board_releases.stores(root):
        _recover(store)


def recover(root: str, app: str) -> None:
    """Undo what was interrupted; nothing happens while a change is under way, or where all is well."""
    _recover(ReleaseStore(root, app))


def _recover(store: ReleaseStore, verify: bool = False) -> None:
    """Undo what was interrupted, and leave an active release that is damaged.

    Args:
        store: The app.
        verify: Hash the active files instead of looking at their sizes only.
    """
    if _is_settled(store, verify):
        return
    with contextlib.suppress(Refusal, OSError), store.locked():
        transaction.undo(store)
        current = store.pointer("current")
        if current is not None and not (store.fit(current) if verify else store.intact(current)):
            transaction.fall_back(store, "release %d is damaged" % current)


def _is_settled(store: ReleaseStore, verify: bool) -> bool:
    last = store.journal.last()
    current = store.pointer("current")
    if last.get("step", "committed") not in transaction.DONE or store.leftovers():
        return False
    if current is None:
        return True
    stopped = bool(app_state.state_of(last).safe_stop)
    return not stopped and (store.fit(current) if verify else store.intact(current))


def report(root: str, verify: bool) -> List[Dict[str, Any]]:
    """Every app (verb ``releases``), put right first; with `verify` by its files' digests, else by their sizes."""
    for store in board_releases.stores(root):
        _recover(store, verify)
    return board_releases.every(root, verify)


def _stopped_row(store: ReleaseStore) -> Optional[Dict[str, Any]]:
    """An app that serves nothing because nothing here may run; release 0."""
    if not app_state.remembered(store).safe_stop:
        return None
    row: Dict[str, Any] = {"app": store.name, "current": 0, "previous": None, "sha256": "", "settings": {}}
    return dict(row, created=0.0, healthy=False)


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
        status, detail = refusal.code, refusal.sentences
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
    signed = _may_be_unsigned(store, job)
    record = transaction.begin(store, manifest["release"], "activate", who=holder_of(job), insecure=not signed)
    transaction.note(store, record, "staging")
    look = _look(store, job, check)
    try:
        faults.point("release.stage", match=store.name)
        store.stage(manifest, record["transaction"])
        faults.point("release.smoke", match=store.name)
        look(record["target"])
    except Exception as error:
        transaction.abort(store, record, str(error))
        raise
    return transaction.switch(store, record, look)


def _may_be_unsigned(store: ReleaseStore, job: Dict[str, Any]) -> bool:
    """Let a release that nobody signed pass on a board without a root of trust, or on demand, which leaves a mark.

    Returns:
        Whether nothing has to be marked: the board is not enrolled.

    Raises:
        Refusal: ``unsigned``.
    """
    if not targets.enrolled(store.root):
        return True
    if job.get("insecure_unsigned") is not True:
        message = "this board takes signed releases only, and a plain deployment of %s is not signed" % store.name
        remedy = "Publish it and update the fleet, or insist with --insecure-unsigned, which marks the board."
        raise Refusal(protocol.UNSIGNED, message, remedy)
    targets.mark_insecure(store.root, "%s was deployed unsigned" % store.name)
    return False


def _look(store: ReleaseStore, job: Dict[str, Any], check: Check) -> transaction.Look:
    return lambda number: health.words(health.launch(store, number, check, job.get("limits")))


def _rollback(store: ReleaseStore, job: Dict[str, Any], check: Check) -> str:
    target = store.pointer("previous")
    if store.pointer("current") is None:
        raise Refusal(protocol.UNKNOWN_APP, "this device has no app %s" % store.name)
    if target is None:
        raise Refusal(protocol.NO_PREVIOUS, "%s has no previous release to go back to" % store.name, "Deploy another.")
    version = store.verify(target).get("version", "")  # before anything moves; the look at it comes after
    if version in app_state.remembered(store).revoked:
        raise Refusal(protocol.REVOKED, "%s is revoked" % version, "Publish a release that is not.")
    record = transaction.begin(store, target, "rollback", who=holder_of(job), version=version)
    return transaction.switch(store, record, _look(store, job, check))


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
