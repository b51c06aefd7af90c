"""The client of what a board does with releases of a fleet; what it answers is untrusted, and comes out as a noun."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeopt.core.release import BoardRelease, HealthFigures
from edgeopt.errors import RunnerError
from edgeopt.remote import jobs
from edgeopt.remote.board_answers import (
    DIGEST,
    LARGEST_BYTES,
    MOST_LISTED,
    check,
    check_figures,
    check_release,
    decoded,
)
from edgeopt.remote.client import Connection, OnProgress
from edgeopt.remote.untrusted import field, one_line

Document = Mapping[str, Any]

MOST_APPS = 256
PREFLIGHT_SECONDS = 300.0
VERIFY_SECONDS = 600.0

Outcome = Literal["committed", "nothing", "skipped", "aborted", "rolled_back", "inconclusive", "safe_stop"]


@dataclass(frozen=True)
class TrustState:
    """What a board trusts.

    Attributes:
        enrolled: Whether a root is pinned.
        root, timestamp, snapshot, targets: Versions of the metadata that it holds; 0: none.
        nonce: What the next freshness statement has to answer, 64 hex digits; empty where the board is not enrolled.
        last_trusted_time: Latest signed time that it believed, in seconds since the epoch.
        insecure: Whether anything unsigned was ever installed there.
        clock_off_seconds: How far its clock is from signed time; 0: not noticeably, or not known.
        delegated: Versions of delegated roles, by name.
    """

    enrolled: bool
    root: int
    timestamp: int
    snapshot: int
    targets: int
    nonce: str
    last_trusted_time: float
    insecure: bool
    clock_off_seconds: int = 0
    delegated: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def versions(self) -> dict[str, Any]:
        """What `edgeopt.signing.repository.Repository.metadata_for_push` takes."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Needed:
    """A file that a release needs on a board, and how many of its bytes are there."""

    sha256: str
    size: int
    have: int


@dataclass(frozen=True)
class Base:
    """A model that a board has, from which a patch may start."""

    sha256: str
    size: int
    version: str


@dataclass(frozen=True)
class Order:
    """What a board is told to run.

    Attributes:
        app: The app.
        manifest: SHA-256 of the release's manifest, which is among the board's objects.
        target: Path of the manifest among the signed targets.
        profile: The board's profile.
        fence: The rollout's.
        insecure_unsigned: Take it without a signature, which marks the board.
    """

    app: str
    manifest: str
    target: str
    profile: str
    fence: int
    insecure_unsigned: bool = False

    def document(self) -> dict[str, Any]:
        """As requests carry it."""
        return dict(vars(self))


@dataclass(frozen=True)
class Preflight:
    """Whether a board may take a release, and what it needs for it.

    Attributes:
        action: ``update``, ``nothing`` (it runs it already), ``skip`` (the release has nothing for it) or ``refuse``.
        code: Why it is skipped or refused; empty otherwise.
        reason: The same in words; for ``update`` what should be known (alarms, a battery).
        needs: Files, and what is there of each.
        have: Models that patches may start from, the active one first.
        free_bytes: Space there.
        need_bytes: Space that the release needs, a reserve with it.
        collect_bytes: What `BoardClient.collect` would free; asked for only where space is short.
        before: What the board has of the app now.
    """

    action: Literal["update", "nothing", "skip", "refuse"]
    code: str
    reason: str
    needs: tuple[Needed, ...]
    have: tuple[Base, ...]
    free_bytes: int
    need_bytes: int
    collect_bytes: int
    before: BoardRelease

    @property
    def send_bytes(self) -> int:
        """Bytes to send where no patch is used."""
        return sum(need.size - need.have for need in self.needs)


@dataclass(frozen=True)
class UpdateOutcome:
    """How an update of a board ended.

    Attributes:
        outcome: ``committed``, ``nothing``, ``skipped``, ``aborted`` (before the switch), ``rolled_back`` (after it),
            ``inconclusive`` (the board was disturbed: try again) or ``safe_stop`` (nothing there may run).
        code: Of what stood in the way; empty where nothing did.
        reason: In words.
        step: Where it ended: ``preflight, verify, stage, smoke, activate, health, commit, collect``.
        before: What the board measured of the release that ran, in this job.
        after: The same of the new one.
        version: Of the release that was ordered.
        release: Number of the active release there; 0: none.
        transitions: Steps, in order.
    """

    outcome: Outcome
    code: str
    reason: str
    step: str
    before: HealthFigures | None
    after: HealthFigures | None
    version: str
    release: int
    transitions: tuple[str, ...]


@dataclass(frozen=True)
class Recheck:
    """The active release, measured again.

    Attributes:
        figures: What was measured; ``None`` where it did not run.
        verdict: ``healthy``, ``unhealthy`` or ``inconclusive``.
        reason: Why it is not healthy.
        version: Of the active release.
        manifest: SHA-256 of its manifest.
    """

    figures: HealthFigures | None
    verdict: Literal["healthy", "unhealthy", "inconclusive"]
    reason: str
    version: str
    manifest: str


class BoardClient:
    """Releases of a fleet on one board.

    Args:
        connection: To the board; stays the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._name = connection.device.name

    def trust(self) -> TrustState:
        """What the board trusts, with a fresh nonce.

        Raises:
            ProtocolError: Its answer is none; here and below.
            DeviceError: It cannot be reached any more; here and below.
        """
        return self._trust(self.connection.request("trust"))

    def enrol(self, root: Document, *, replace: bool = False) -> TrustState:
        """Pin a root.

        Raises:
            RunnerError: Another one is pinned (`status` ``already_enrolled``), or it is none.
        """
        return self._trust(self.connection.request("enrol", root=dict(root), replace=replace))

    def bring_trust(self, metadata: Document, freshness: Document | None = None) -> TrustState:
        """Send signed metadata; the board verifies the whole chain and keeps it, or nothing.

        Args:
            metadata: ``roots``, ``timestamp``, ``snapshot``, ``targets`` and ``delegated``.
            freshness: The signed answer to the board's nonce, unless it is among the metadata.

        Raises:
            RunnerError: The board refused it: ``bad_signature``, ``rollback_attack``, ``expired``, ``stale``,
                ``bad_metadata``.
        """
        more = {} if freshness is None else {"freshness": dict(freshness)}
        return self._trust(self.connection.request("trust_update", **{**metadata, **more}))

    def preflight(self, order: Order) -> Preflight:
        """Whether the board may take a release; nothing is changed there.

        Raises:
            RunnerError: The order itself is none.
        """
        answer = self.connection.request("preflight", deadline_seconds=PREFLIGHT_SECONDS, **order.document())
        found: Preflight = decoded(Preflight, answer, self._where("preflight"))
        sizes = [found.free_bytes, found.need_bytes, found.collect_bytes]
        rows: list[Needed | Base] = [*found.needs, *found.have]
        for row in rows:
            check(DIGEST.fullmatch(row.sha256) is not None, f"the digest {row.sha256[:80]!r}", self._where("preflight"))
            sizes.append(row.size)
        for need in found.needs:
            check(0 <= need.have <= need.size, f"{need.have} of {need.size} bytes", self._where("preflight"))
        check(all(0 <= size <= LARGEST_BYTES for size in sizes), f"sizes {sizes[:8]}", self._where("preflight"))
        check_release(found.before, self._where("preflight"), app=order.app)
        return found

    def collect(self, keep: Sequence[str]) -> int:
        """Make room: remove releases that nobody may go back to and files that nobody wants; returns the bytes.

        Args:
            keep: Digests that stay: what has been sent of a release, its manifest before all.
        """
        answer = self.connection.request("gc", keep=list(keep), tight=True)
        return max(0, int(field(answer, "freed_bytes", int, self._where("gc"))))

    def update(
        self,
        order: Order,
        *,
        rollout: str,
        golden: bool = False,
        on_progress: OnProgress | None = None,
        job_id: str = "",
    ) -> UpdateOutcome:
        """Change the board to a release whose files are there, or leave it as it was.

        Args:
            order: What is to run.
            rollout: Name of the rollout, for the board's log.
            golden: Whether it becomes the release that is gone back to when nothing else is sound.
            on_progress: Hears of every status; ``phase`` is the step.
            job_id: 32 hex digits; the same for the same attempt, so that a restarted host collects its result.

        Raises:
            RunnerError: The board could not even take up the job, or it ended without an outcome (`status` says how).
        """
        fields = {**order.document(), "rollout": rollout, "golden": golden, "commit": "local"}
        return self.outcome_of(self._job("update", order.app, fields, on_progress, job_id))

    def recheck(self, app: str, *, fence: int, on_progress: OnProgress | None = None, job_id: str = "") -> Recheck:
        """Measure the active release again.

        Raises:
            RunnerError: There is none, or it could not be measured.
        """
        result = self._job("recheck", app, {"app": app, "fence": fence}, on_progress, job_id)
        jobs.require_ok(result, f"{self._name}: checking {app} again")
        where = self._where("recheck")
        found: Recheck = decoded(Recheck, field(result, "recheck", dict, where), where)
        check_figures(found.figures, where)
        return found

    def return_to_previous(
        self, app: str, *, fence: int, to_manifest: str = "", rollout: str = "", job_id: str = ""
    ) -> UpdateOutcome:
        """Go back to an earlier release that the board still has.

        Args:
            app: The app.
            fence: The rollout's.
            to_manifest: SHA-256 of that release's manifest; empty: the previous one.
            rollout: Name of the rollout, for the board's log.
            job_id: As in `update`.
        """
        fields = {"app": app, "fence": fence, "to_manifest": to_manifest, "rollout": rollout}
        return self.outcome_of(self._job("return", app, fields, None, job_id))

    def releases(self, verify: bool = False) -> tuple[BoardRelease, ...]:
        """What the board has and runs.

        Args:
            verify: Hash the active files there; one that is damaged is left for a sound one.
        """
        where = self._where("releases")
        answer = self.connection.request("releases", deadline_seconds=VERIFY_SECONDS, verify=verify)
        rows = field(answer, "apps", list, where)
        check(len(rows) <= MOST_APPS, f"{len(rows)} apps", where)
        found = tuple(decoded(BoardRelease, row, where) for row in rows)
        for release in found:
            check_release(release, where, app=release.app)
        return found

    def _job(
        self, kind: str, app: str, fields: dict[str, Any], on_progress: OnProgress | None, job_id: str
    ) -> dict[str, Any]:
        job = jobs.plain_job(kind, f"{kind} of {app}", job_id or None, fields=fields)
        return self.connection.run_job(job, on_progress)

    def outcome_of(self, result: dict[str, Any]) -> UpdateOutcome:
        """The outcome in the result of an ``update`` or ``return`` job.

        Raises:
            RunnerError: The job ended without one (killed, rebooted); `status` says how.
            ProtocolError: It cannot be.
        """
        where = self._where("update")
        if not isinstance(result.get("update"), dict):
            status = one_line(str(result.get("status")))
            detail = one_line(str(result.get("detail") or "no more is known"), 400)
            raise RunnerError(f"{where}: it ended with {status}: {detail.rstrip('.')}.", status=status)
        found: UpdateOutcome = decoded(UpdateOutcome, result["update"], where)
        check_figures(found.before, where)
        check_figures(found.after, where)
        check(len(found.transitions) <= MOST_LISTED, f"{len(found.transitions)} steps", where)
        measured = found.after is not None or found.outcome != "committed"
        check(measured, "a committed release that was not measured", where)
        return found

    def _trust(self, answer: dict[str, Any]) -> TrustState:
        where = self._where("trust")
        found: TrustState = decoded(TrustState, answer, where)
        sound = DIGEST.fullmatch(found.nonce) is not None or (not found.enrolled and not found.nonce)
        check(sound, f"the nonce {found.nonce[:80]!r}", where)
        versions = (found.root, found.timestamp, found.snapshot, found.targets)
        check(min(versions) >= 0, f"versions {versions}", where)
        check(0 <= found.last_trusted_time < 1 << 40, f"the time {found.last_trusted_time}", where)
        return found

    def _where(self, verb: str) -> str:
        return f"{self._name}: {verb}"
