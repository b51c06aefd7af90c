"""Job kind ``update``: from an order to a committed release, or to what was before, with everything that was measured.

Staging, the switch and the way back are those of `transaction`; here is what a fleet adds to them.
"""

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner import cleanup, faults, protocol, storage, transaction
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.trust import targets
from edgeopt_runner.updates import app_state, health, order, preflight, space

Tell = Callable[[str], None]
"""Hears of every step: ``preflight, verify, stage, smoke, activate, health, commit, collect``."""

CHEAP_SECONDS = 30.0
"""Above this a launch costs so much that old and new are launched once each instead of twice."""

LEAST_SECONDS, MOST_TIMES = 60.0, 10.0
"""A launch of a release that was launched before may take that many times as long, and the seconds at least."""

COMMITTED, NOTHING_TO_DO, SKIPPED, ABORTED = "committed", "nothing", "skipped", "aborted"
ROLLED_BACK, INCONCLUSIVE, SAFE_STOP = "rolled_back", "inconclusive", "safe_stop"


def update(root: str, job: Dict[str, Any], check: health.Check, tell: Tell) -> Dict[str, Any]:
    """Do the job.

    Args:
        root: The runner's root.
        job: An ``update`` job of `edgeopt_runner.protocol`.
        check: Runs a ``check`` job in a guarded worker and returns its result document.
        tell: Hears of every step.

    Returns:
        ``status``, ``detail`` and ``update``: ``outcome, code, reason, step, before, after, version, release,
        transitions, previous_seconds``.
    """
    return _Update(root, job, check, tell).done()


class _Update:
    """One update, and what it has found so far."""

    def __init__(self, root: str, job: Dict[str, Any], check: health.Check, tell: Tell) -> None:
        self.job, self.check, self._tell = job, check, tell
        self.order = order.read(job)
        self.store = ReleaseStore(root, self.order.app)
        self.steps: List[str] = []
        self.version = ""
        self.switched = False
        self.before: List[health.Launch] = []
        self.after: List[health.Launch] = []
        self._longest_seconds = 0.0

    def done(self) -> Dict[str, Any]:
        """Do it, and say how it ended."""
        try:
            with self.store.locked():
                transaction.undo(self.store)
                outcome, reason = self._update()
            code = protocol.OK
        except preflight.Skip as skip:
            outcome, code, reason = SKIPPED, skip.code, skip.sentences
        except (Refusal, OSError) as error:
            refusal = refusal_of(error)
            outcome, code, reason = self._failed(refusal), refusal.code, refusal.sentences
        return self._result(outcome, code, reason)

    def _failed(self, refusal: Refusal) -> str:
        """What became of an update that did not go through."""
        if app_state.remembered(self.store).safe_stop:
            return SAFE_STOP
        if refusal.code == protocol.INCONCLUSIVE:
            return INCONCLUSIVE
        return ROLLED_BACK if self.switched else ABORTED

    def _result(self, outcome: str, code: str, reason: str) -> Dict[str, Any]:
        good = outcome in (COMMITTED, NOTHING_TO_DO, SKIPPED)
        answer = {
            "outcome": outcome,
            "code": "" if outcome in (COMMITTED, NOTHING_TO_DO) else code,
            "reason": reason,
            "step": self.steps[-1] if self.steps else "preflight",
            "before": health.figures(self.before),
            "after": health.figures(self.after),
            "version": self.version,
            "release": self.store.pointer("current") or 0,
            "transitions": self.steps,
        }
        return {"status": protocol.OK if good else code, "detail": reason, "update": answer}

    def _step(self, name: str) -> None:
        self.steps.append(name)
        self._tell(name)

    def _update(self) -> Any:
        """All steps, on the locked and recovered app; returns the outcome and what is to be said."""
        self._take_fence()
        faults.point("update.preflight", match=self.store.name)
        self._step("preflight")
        judged = preflight.judge(self.store, self.order)
        self.version = judged.manifest.version
        if judged.action == preflight.NOTHING:
            return NOTHING_TO_DO, judged.reason
        self._step("verify")
        for need in judged.needs:
            space.gather(self.store.root, need.sha256)
        manifest = _board_manifest(self.store, self.order, judged)
        record = self._begin(manifest, judged)
        try:
            self._try_out(manifest, record)
        except Exception as error:
            transaction.blame(record, error)
            transaction.abort(self.store, record, str(error))
            raise
        dropped = self.store.spare()
        doomed = _digests(self.store, dropped)
        self._step("activate")
        words = transaction.switch(self.store, record, lambda number: self._look(record, number))
        self._step("collect")
        _collect(self.store, doomed)
        return COMMITTED, "%s; %s" % (self.version, words)

    def _take_fence(self) -> None:
        """Whoever has the board now, an order from before is refused from here on, whatever becomes of this one."""
        state = app_state.remembered(self.store)
        state.check_fence(self.order.fence)
        if self.order.fence > state.fence:
            faults.point("update.fence", match=self.store.name)
            state.take_fence(self.order.fence, holder_of(self.job))
            remember(self.store, state)

    def _begin(self, manifest: Dict[str, Any], judged: preflight.Judged) -> Dict[str, Any]:
        """The record, with the attempt counted; staging begins with its first line."""
        golden, state = self.store.pointer("golden"), app_state.remembered(self.store)
        record = transaction.begin(
            self.store,
            manifest["release"],
            "update",
            who=holder_of(self.job),
            rollout=str(self.job.get("rollout", ""))[:64],
            signed=judged.signed,
            insecure=not judged.signed,
            version=self.version,
            manifest=self.order.manifest,
            revoked=list(judged.manifest.revoked),
            make_golden=bool(self.job.get("golden")) or not self.store.fit(golden, state.revoked),
        )
        state.count_attempt(self.order.manifest)
        record[app_state.KEY] = state.document()
        if not judged.signed and targets.enrolled(self.store.root):
            targets.mark_insecure(self.store.root, "%s %s came unsigned" % (self.store.name, self.version))
        return record

    def _try_out(self, manifest: Dict[str, Any], record: Dict[str, Any]) -> None:
        """Stage the release and launch it, in turns with the one that runs; nothing that serves is touched."""
        store, number = self.store, record["target"]
        self._step("stage")
        faults.point("update.attempt", match=store.name)
        transaction.note(store, record, "staging")
        faults.point("release.stage", match=store.name)
        store.stage(manifest, record["transaction"])
        faults.point("release.smoke", match=store.name)
        self._step("smoke")
        started = time.monotonic()
        self._launch_new(number, health.runs_each(manifest, 2))
        faults.point("update.before", match=store.name)
        if record["current"] is not None:
            for who in health.turns(time.monotonic() - started <= CHEAP_SECONDS):
                if who == "new":
                    self._launch_new(number, health.runs_each(manifest, 2))
                elif not self._launch_old(record, health.runs_each(manifest, 2)):
                    break
        health.judge(_figures(self.after), manifest)

    def _launch_new(self, number: int, runs: int) -> None:
        started = time.monotonic()
        self.after.append(health.launch(self.store, number, self.check, self._limits(), runs))
        self._longest_seconds = max(self._longest_seconds, time.monotonic() - started)

    def _limits(self) -> Dict[str, Any]:
        """The job's limits; once the new release was launched, no other launch of it may take much longer.

        What hangs after the switch has applications wait for it.
        """
        limits: Dict[str, Any] = dict(self.job.get("limits") or {})
        if self.after:
            deadlines = dict(limits.get("deadline_seconds") or {})
            most = max(LEAST_SECONDS, MOST_TIMES * self._longest_seconds)
            deadlines["total"] = min(most, deadlines.get("total", most))
            limits["deadline_seconds"] = deadlines
        return limits

    def _launch_old(self, record: Dict[str, Any], runs: int) -> bool:
        """Launch what runs now; False where it is not healthy itself, and the last to go back to, or lacks room."""
        try:
            self.before.append(health.launch(self.store, record["current"], self.check, self.job.get("limits"), runs))
        except Refusal as error:
            if error.code != protocol.HEALTH_FAILED:
                raise
            self.before = []
            if not isinstance(error, health.Starved):
                record["unfit"] = [record["current"]]
            return False
        return True

    def _look(self, record: Dict[str, Any], number: int) -> str:
        """The look after the switch."""
        self.switched = True
        self._step("health")
        self._launch_new(number, 0)
        found = _figures(self.after)
        health.judge(found, self.store.manifest(number))
        record["figures"] = found
        self._step("commit")
        return health.words(self.after[-1])


def _figures(launches: List[health.Launch]) -> Dict[str, Any]:
    found = health.figures(launches)
    assert found is not None
    return found


def holder_of(job: Dict[str, Any]) -> str:
    """Who gave the order: ``owner@host``."""
    owner: Optional[Dict[str, Any]] = job.get("owner")
    return "%s@%s" % (owner.get("owner", ""), owner.get("host", "")) if isinstance(owner, dict) else ""


def remember(store: ReleaseStore, state: app_state.AppState) -> None:
    """Write the app's memory down between transactions."""
    last = dict(store.journal.last() or {"step": "committed"})
    last[app_state.KEY] = state.document()
    store.journal.append(last)


def _board_manifest(store: ReleaseStore, wanted: order.Order, judged: preflight.Judged) -> Dict[str, Any]:
    """The board's own manifest of the release, the signed one kept beside it."""
    entry, release = judged.entry, judged.manifest
    assert entry is not None
    return {
        "app": store.name,
        "release": store.next_number(),
        "created": time.time(),
        "format": entry.model.format,
        "settings": entry.settings,
        "health": {
            "min_cosine": entry.health.min_cosine,
            "max_latency_ns": None,
            "max_p95_ns": entry.health.max_latency_ns,
            "max_memory_bytes": entry.health.max_memory_bytes,
            "runs": entry.health.runs,
        },
        "files": {
            "model": {"name": "model.%s" % entry.model.format, "sha256": entry.model.sha256},
            "golden": {"name": "golden.npz", "sha256": entry.golden.sha256},
            "release": {"name": "release.json", "sha256": wanted.manifest},
        },
        "version": release.version,
        "counter": release.counter,
        "manifest": wanted.manifest,
        "target": wanted.target,
        "profile": wanted.profile,
        "signed": judged.signed,
        "revoked": list(release.revoked),
        "restores": release.restores,
    }


def _digests(store: ReleaseStore, numbers: List[int]) -> List[str]:
    """Digests of the files of some releases."""
    found: List[str] = []
    for number in numbers:
        with contextlib.suppress(Refusal):
            found += [entry["sha256"] for entry in store.manifest(number)["files"].values()]
    return found


def _collect(store: ReleaseStore, doomed: List[str]) -> None:
    """Remove objects of releases that are gone, unless another release or job wants them."""
    with contextlib.suppress(OSError):
        faults.point("update.collect", match=store.name)
        for digest in set(doomed) - cleanup.wanted(store.root):
            path = storage.object_path(store.root, digest)
            if os.path.isfile(path):
                os.unlink(path)
