"""One change of an app's active release, journalled: the switch, the look at what runs there, and the way back.

    staging -> switching -> switched -> committed         the way it should go
       |           |            |
    aborted     returning <-----+ -> returned             anything else: as before

Each word is a line of the journal, synced before the deed that it names. What was interrupted before `committed` is
undone: the host sends the same job again, and a release that was never seen healthy must not stay. Serving the new
release until someone looks was the alternative; it calls an update done that may not run.

The way back leads to what ran before; where that is damaged, revoked or was seen unhealthy, to `previous` and then to
`golden`; where none is better, to the whole one that was seen unhealthy, which served until now; where none may run, to
nothing at all, which is said loudly (a safe stop). It leads there too when a board did not get through the way back in
`MOST_TRANSITIONS` lines: something there crashes it every time.
"""

import contextlib
import uuid
from typing import Any, Callable, Dict, Iterator, Optional

from edgeopt_runner import faults, protocol
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.updates import app_state, ballast, events

Check = Callable[[Dict[str, Any]], Dict[str, Any]]
"""Runs a ``check`` job in a guarded worker and returns its result document."""

Look = Callable[[int], str]
"""Looks at a release and says in words what it saw; raises Refusal where it is not healthy."""

DONE = ("committed", "aborted", "returned", "stopped")
"""Last steps of a transaction."""

MOST_TRANSITIONS = 28
NOT_ITS_FAULT = (
    *(protocol.INCONCLUSIVE, protocol.CANCELLED, protocol.BUSY, protocol.MISSING_OBJECT, protocol.DIGEST_MISMATCH),
    *(protocol.DISK_FULL, protocol.READ_ONLY, protocol.NO_INODES),
)
"""Ends that say nothing about the release."""

_INSTALLS = ("activate", "update")


def begin(store: ReleaseStore, target: int, kind: str, **facts: Any) -> Dict[str, Any]:
    """The journal's record of a transaction: where it goes, what was before, and what the app's journal remembers.

    Args:
        store: The app, locked.
        target: The release that is to become active.
        kind: ``activate``, ``update``, ``rollback`` or ``fallback``.
        facts: More for the record: ``who``, ``rollout``, ``signed``, ``version``, ``manifest``, ``revoked`` (versions
            that must not be gone back to), ``make_golden``.
    """
    ballast.keep(store.root)
    record = {
        "transaction": uuid.uuid4().hex,
        "kind": kind,
        "target": target,
        "highest": max(target, store.next_number() - 1),
        "transitions": 0,
        "unfit": [],
        app_state.KEY: app_state.remembered(store).document(),
    }
    record.update({name: store.pointer(name) for name in ("current", "previous", "golden")}, **facts)
    return record


def note(store: ReleaseStore, record: Dict[str, Any], step: str, detail: str = "") -> None:
    """Write a step of a transaction into the journal; durable when this returns."""
    record["transitions"] = int(record.get("transitions", 0)) + 1
    store.journal.append(dict(record, step=step, detail=detail[:500]))
    events.tell(store.root, store.name, record, step, detail)


def switch(store: ReleaseStore, record: Dict[str, Any], look: Look) -> str:
    """Lead `current` to the target, look whether it is healthy there, and commit; else lead it back."""
    with _returning(store, record):
        faults.point("release.switching", match=store.name)
        note(store, record, "switching")
        faults.point("release.previous", match=store.name)
        store.point("previous", record["current"])
        faults.point("release.current", match=store.name)
        store.point("current", record["target"])
        faults.point("release.switched", match=store.name)
        note(store, record, "switched")
        faults.point("release.health", match=store.name)
        store.verify(record["target"])
        verdict = look(record["target"])
        faults.point("release.commit", match=store.name)
        _commit(store, record, verdict)
    with contextlib.suppress(OSError):  # it is committed: what is left over goes the next time
        faults.point("release.prune", match=store.name)
        store.prune()
    return "release %d is active; %s" % (record["target"], verdict)


def _commit(store: ReleaseStore, record: Dict[str, Any], verdict: str) -> None:
    """The release stays; with the same line the board remembers its counter and what it revokes."""
    state = app_state.state_of(record)
    state.commit(store.manifest(record["target"]), record.get("revoked", []))
    state.figures = record.pop("figures", None)
    state.insecure = state.insecure or bool(record.get("insecure"))
    if record.get("make_golden"):
        faults.point("release.golden", match=store.name)
        store.point("golden", record["target"])
    record[app_state.KEY] = state.document()
    note(store, record, "committed", verdict)


@contextlib.contextmanager
def _returning(store: ReleaseStore, record: Dict[str, Any]) -> Iterator[None]:
    """Undo the switch when the block fails, whatever the failure."""
    try:
        yield
    except Refusal as error:
        blame(record, error)
        number = _return(store, record, error.message)
        before = "nothing is active" if number is None else "release %d is active again" % number
        raise Refusal(error.code, "%s; %s" % (error.message, before), error.remedy)
    except BaseException as error:
        blame(record, error)
        _return(store, record, repr(error))
        raise


def blame(record: Dict[str, Any], error: BaseException) -> None:
    """Remember in the record why its release failed, or that the attempt said nothing about it."""
    if record["kind"] != "update":
        return
    refusal = refusal_of(error)
    state = app_state.state_of(record)
    if refusal.code in NOT_ITS_FAULT or isinstance(error, OSError):
        state.forgive_attempt(record["manifest"])
    else:
        state.fail(record["version"], "%s: %s" % (refusal.code, refusal.message))
    record[app_state.KEY] = state.document()


def undo(store: ReleaseStore) -> None:
    """Bring an interrupted transaction, if there is one, to its end: everything as before."""
    record = store.journal.last()
    step = record.pop("step", "committed")
    reason = record.pop("detail", "") or "interrupted while %s" % step
    if step not in DONE:
        if record["kind"] == "update" and step != "returning":
            state = app_state.state_of(record)
            state.fail(record["version"], reason)
            record[app_state.KEY] = state.document()
        if int(record.get("transitions", 0)) >= MOST_TRANSITIONS:
            _stop(store, record)
        elif step == "staging":
            abort(store, record, reason)
        else:
            _return(store, record, reason)
    elif app_state.state_of(record).safe_stop and store.pointer("current") is not None:
        store.point("current", None)
    store.sweep()


def abort(store: ReleaseStore, record: Dict[str, Any], reason: str) -> None:
    """End a transaction that touched no pointer."""
    _drop(store, record["target"])
    _insist(store, lambda: note(store, record, "aborted", reason))


def fall_back(store: ReleaseStore, reason: str) -> None:
    """Leave an active release that is damaged for the next one that may run."""
    current = store.pointer("current")
    assert current is not None
    faults.point("release.fallback", match=store.name)
    record = begin(store, current, "fallback")
    with contextlib.suppress(Refusal):  # the manifest may be what is damaged
        record["version"] = store.manifest(current).get("version", "")
    _return(store, record, reason)


def _return(store: ReleaseStore, record: Dict[str, Any], reason: str) -> Optional[int]:
    """Lead the pointers back; may be done any number of times. Returns the release that is active then."""
    faults.point("release.returning", match=store.name)
    _insist(store, lambda: note(store, record, "returning", reason))
    number = _way_back(store, record)
    same = number == record["current"]
    _insist(store, lambda: store.point("current", number))
    faults.point("release.return", match=store.name)
    _insist(store, lambda: store.point("previous", record["previous"] if same else None))
    if "golden" in record:
        _insist(store, lambda: store.point("golden", record["golden"]))
    if record["kind"] in _INSTALLS:
        _drop(store, record["target"])
    if number is None and record["current"] is not None:
        _mark_stopped(record, reason)
    faults.point("release.returned", match=store.name)
    _insist(store, lambda: note(store, record, "returned", reason))
    return number


def _drop(store: ReleaseStore, number: int) -> None:
    """Take a release away that did not come to stay; where that fails, the next contact sweeps or prunes it."""
    with contextlib.suppress(OSError):
        ballast.insist(store.root, lambda: store.discard(number))
        store.sweep()


def _insist(store: ReleaseStore, deed: Callable[[], None]) -> None:
    """Do a step of going back, on a full disk too."""
    ballast.insist(store.root, deed)


def _way_back(store: ReleaseStore, record: Dict[str, Any]) -> Optional[int]:
    """The release to go back to: what ran before, else `previous`, else `golden`, else none.

    Where nothing ran before there is nothing to go back to. One that was seen unhealthy comes after all others, and the
    one that was just tried, or that is left for its damage, never.
    """
    if record["current"] is None:
        return None
    unfit = set(record.get("unfit", []))
    revoked = set(record.get("revoked", [])) | set(app_state.state_of(record).revoked)
    numbers = [record.get(name) for name in ("current", "previous", "golden")]
    numbers = [number for number in numbers if number not in (None, record["target"])]
    for number in sorted(numbers, key=lambda number: number in unfit):
        if store.fit(number, revoked):
            return number
    return None


def _mark_stopped(record: Dict[str, Any], reason: str) -> None:
    state = app_state.state_of(record)
    state.safe_stop = "no release here may run: %s" % reason[:300]
    record[app_state.KEY] = state.document()


def _stop(store: ReleaseStore, record: Dict[str, Any]) -> None:
    """Give up: the journal says so first, then `current` goes."""
    reason = "the way back was interrupted again and again (%d steps)" % record["transitions"]
    _mark_stopped(record, reason)
    _insist(store, lambda: note(store, record, "stopped", reason))
    store.point("current", None)
