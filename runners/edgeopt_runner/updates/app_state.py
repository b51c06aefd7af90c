"""What a board remembers of an app beyond its pointers; it travels in every line of the app's journal.

In the journal rather than in a file of its own: a commit and what it means (counter, revoked versions) become durable
in one write, or not at all.
"""

import contextlib
import os
import time
from typing import Any, Dict, List, Optional

from edgeopt_runner import processes
from edgeopt_runner.journal import Journal
from edgeopt_runner.protocol import FENCED, PENALISED
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import ReleaseStore

KEY = "app_state"
MOST_ATTEMPTS = 3
PENALTY_SECONDS = 24 * 3600.0
_KEPT_NAMES = 16


class AppState:
    """The memory of one app.

    Attributes:
        fence: Highest fence of an order; 0 where none came.
        fence_holder, fence_time: Whose order that was, and when (wall clock, for people).
        counter: Highest counter that was committed.
        counter_manifest: Digest of the manifest that had it.
        revoked: Versions that must not run again, as the committed manifests say.
        attempts: By manifest: when it was tried, each ``[boot id, seconds since that boot]``.
        failed: By version: why it failed here last.
        figures: What the last health check of the active release measured.
        safe_stop: Why nothing is served; empty where something is.
        insecure: Whether anything unsigned was ever activated.
    """

    def __init__(self, document: Optional[Dict[str, Any]] = None) -> None:
        found = document or {}
        self.fence = int(found.get("fence", 0))
        self.fence_holder = str(found.get("fence_holder", ""))
        self.fence_time = float(found.get("fence_time", 0.0))
        self.counter = int(found.get("counter", 0))
        self.counter_manifest = str(found.get("counter_manifest", ""))
        self.revoked: List[str] = list(found.get("revoked", []))
        self.attempts: Dict[str, List[List[Any]]] = dict(found.get("attempts", {}))
        self.failed: Dict[str, str] = dict(found.get("failed", {}))
        self.figures: Optional[Dict[str, Any]] = found.get("figures")
        self.safe_stop = str(found.get("safe_stop", ""))
        self.insecure = bool(found.get("insecure", False))

    def document(self) -> Dict[str, Any]:
        """As the journal keeps it: names of the past are dropped beyond a few."""
        fields = dict(vars(self))
        for name in ("attempts", "failed"):
            fields[name] = dict(list(fields[name].items())[-_KEPT_NAMES:])
        return fields

    def check_fence(self, fence: int) -> None:
        """Refuse an order of a rollout that another has overtaken.

        Raises:
            Refusal: ``fenced``; names whose order stands above it.
        """
        if fence < self.fence:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.fence_time))
            message = "an order with fence %d; %s gave one with %d at %s (board's UTC)"
            values = (fence, self.fence_holder or "somebody", self.fence, when)
            raise Refusal(FENCED, message % values, "Another rollout has this board now; look at its status.")

    def take_fence(self, fence: int, holder: str) -> None:
        """Remember the fence of an order that passed `check_fence`."""
        if fence > self.fence:
            self.fence, self.fence_holder, self.fence_time = fence, holder[:120], time.time()

    def check_penalty(self, manifest: str) -> None:
        """Refuse a release that was tried here too often of late.

        Raises:
            Refusal: ``penalised``; says how long.
        """
        ages = sorted(_age_seconds(entry) for entry in self.attempts.get(manifest, []))
        recent = [age for age in ages if age < PENALTY_SECONDS]
        if len(recent) >= MOST_ATTEMPTS:
            left_hours = (PENALTY_SECONDS - recent[MOST_ATTEMPTS - 1]) / 3600.0
            message = "this release failed here %d times; it may be tried again in %.1f h of uptime"
            raise Refusal(PENALISED, message % (len(recent), left_hours), "Publish a release that is healthy here.")

    def count_attempt(self, manifest: str) -> None:
        """Remember that a release is tried now: what crashes the board counts too."""
        recent = [entry for entry in self.attempts.pop(manifest, []) if _age_seconds(entry) < PENALTY_SECONDS]
        self.attempts[manifest] = recent[-MOST_ATTEMPTS:] + [[processes.boot_id(), time.monotonic()]]

    def forgive_attempt(self, manifest: str) -> None:
        """Take the last attempt back: it said nothing about the release."""
        kept = self.attempts.pop(manifest, [])[:-1]
        if kept:
            self.attempts[manifest] = kept

    def fail(self, version: str, reason: str) -> None:
        """Remember why a release failed."""
        self.failed.pop(version, None)
        self.failed[version] = reason[:200]

    def commit(self, manifest: Dict[str, Any], revoked: List[str]) -> None:
        """Remember a committed release: nothing older may come after it.

        Args:
            manifest: The board's own manifest of it.
            revoked: Versions that it revokes.
        """
        self.safe_stop = ""
        if not manifest.get("version"):
            return
        self.attempts.pop(manifest["manifest"], None)
        self.failed.pop(manifest["version"], None)
        if manifest["counter"] > self.counter:
            self.counter, self.counter_manifest = manifest["counter"], manifest["manifest"]
        self.revoked = sorted(set(self.revoked) | set(revoked))


def state_of(record: Dict[str, Any]) -> AppState:
    """The state in a journal's record."""
    return AppState(record.get(KEY))


def remembered(store: ReleaseStore) -> AppState:
    """What the board remembers of an app; where its journal is lost, what the releases themselves say.

    Without that a lost journal would open the way back to every old release.
    """
    last = store.journal.last()
    state = state_of(last)
    if not last:
        for number in store.numbers():
            with contextlib.suppress(Refusal):
                manifest = store.manifest(number)
                if manifest.get("counter", 0) > state.counter:
                    state.counter, state.counter_manifest = manifest["counter"], manifest["manifest"]
                state.revoked = sorted(set(state.revoked) | set(manifest.get("revoked", [])))
    return state


def why_stopped(app_path: str) -> str:
    """Why an app serves nothing; empty where it is not stopped."""
    return state_of(Journal(os.path.join(app_path, "journal.jsonl")).last()).safe_stop


def _age_seconds(entry: List[Any]) -> float:
    """How long ago an attempt was, by clocks that nobody sets: across a reboot only the time since it counts."""
    boot, moment = entry
    now = time.monotonic()
    return now - float(moment) if boot == processes.boot_id() else now
