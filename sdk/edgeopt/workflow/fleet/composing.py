"""Makes a release from runs of the ledger: for each profile its winner, and what every board must measure of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgeopt import documents
from edgeopt.core.formats import ONNX
from edgeopt.core.measurement import Measurement
from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.release import HealthFigures, HealthLimits, Release, ReleaseEntry
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment
from edgeopt.errors import UsageError
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.store.artifacts import ArtifactStore
from edgeopt.workflow.measuring import least_cosine
from edgeopt_targets.onnxruntime_versions import oldest_reading

DAY_SECONDS = 86400.0
SCHEMA = 1
MANIFEST_LIMIT_BYTES = 256 << 10
_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_HEALTH_RUNS = 50
_BUILDS_ENGINES = {"tensorrt": 3}
"""Runtimes that build an engine on the board: how many times the model's size staging may take beside it."""


@dataclass(frozen=True)
class ReleaseRequest:
    """What to publish.

    Attributes:
        app: Name that applications load it by.
        version: For people and commands.
        runs: Runs of the ledger, each for the profile of its device.
        profiles: Runs by the profile that they shall be for.
        expires_seconds: After so long no board begins to install it.
        revoke: Versions that no board may go back to any more.
        restore: Publish the content of this version again, as an authorised downgrade, instead of runs.
        margin: How much more than was measured a board may show, as a share: of memory, and of latency (p95) where
            `max_slower` says nothing else.
        max_slower: The same for latency alone.
        notes: For people.
    """

    app: str
    version: str
    runs: tuple[str, ...] = ()
    profiles: Mapping[str, str] = field(default_factory=dict)
    expires_seconds: float = 90 * DAY_SECONDS
    revoke: tuple[str, ...] = ()
    restore: str = ""
    margin: float = 0.5
    max_slower: float | None = None
    notes: str = ""

    def check(self) -> None:
        """Refuse what no release can be made of.

        Raises:
            UsageError: A name, a share or a time is wrong, or neither runs nor a version to restore are there.
        """
        check_name(self.app, self.version)
        sources = bool(self.runs or self.profiles)
        if sources == bool(self.restore):
            raise UsageError(
                "a release is made of runs or of a version to restore: one of the two.",
                remedy="Say --from RUN (again for each profile), or --restore VERSION.",
            )
        for option, share in (("--margin", self.margin), ("--max-slower", self.max_slower)):
            if share is not None and not (0 <= share < 1000 and math.isfinite(share)):
                raise UsageError(f"{option} {share:g} is no share.", remedy=f"Say {option} 20%.")
        if not 0 < self.expires_seconds <= 3650 * DAY_SECONDS:
            raise UsageError("--expires lies outside of ten years.", remedy="Say --expires 90d.")
        if self.version in self.revoke:
            raise UsageError(f"{self.version} cannot revoke itself.", remedy="Publish another version that revokes it.")


def check_name(app: str, version: str) -> None:
    """Refuse names that no board would take.

    Raises:
        UsageError: The app's or the version's name is none.
    """
    if not _APP.fullmatch(app):
        raise UsageError(f"{app[:80]!r} is no app's name.", remedy="Use a-z, 0-9, dots, dashes: detector@1.4.0.")
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version[:80]!r} is no version.", remedy="Use letters, digits, dots: detector@1.4.0.")


def split_name(name: str) -> tuple[str, str]:
    """``app@version`` as a pair.

    Raises:
        UsageError: It is not of that form.
    """
    app, at, version = name.partition("@")
    if not at:
        raise UsageError(f"{name[:80]!r} is not APP@VERSION.", remedy="Say detector@1.4.0.")
    check_name(app, version)
    return app, version


def entries_of(
    records: Iterable[tuple[str, RunRecord]], artifacts: ArtifactStore, request: ReleaseRequest
) -> dict[str, ReleaseEntry]:
    """One entry a profile.

    Args:
        records: Pairs of profile (empty: that of the run) and run.
        artifacts: Where the files are; each is hashed.
        request: Its margins.

    Raises:
        UsageError: Two runs for one profile, a run without a winner or from before golden samples were noted.
        StoreError: A file is missing or damaged.
    """
    entries: dict[str, ReleaseEntry] = {}
    for named, record in records:
        profile = named or record.profile_name
        if profile in entries:
            twice = f"{entries[profile].run_id} and {record.run_id}"
            raise UsageError(
                f"two runs are for profile {profile!r}: {twice}.",
                remedy="Name one of them, or say which is for which: --profile PROFILE=RUN.",
            )
        if not _APP.fullmatch(profile):
            raise UsageError(f"{profile[:80]!r} is no profile's name.", remedy="See edgeopt profiles.")
        entries[profile] = _entry(record, artifacts, request)
    return dict(sorted(entries.items()))


def _entry(record: RunRecord, artifacts: ArtifactStore, request: ReleaseRequest) -> ReleaseEntry:
    winner = _winner(record)
    variant, settings = winner.candidate.variant, winner.candidate.settings
    if record.golden is None:
        raise UsageError(
            f"run {record.run_id} was made before edgeopt noted golden samples.",
            remedy=f"Run it again, measurements come from the ledger: {record.command}",
        )
    for file in (variant.artifact, record.golden):
        artifacts.verify(file.digest)
    measured = _figures(winner)
    slower = request.margin if request.max_slower is None else request.max_slower
    return ReleaseEntry(
        variant=variant.name,
        model=variant.artifact,
        golden=record.golden,
        settings=settings,
        machines=(record.facts.machine,) if record.facts.machine else (),
        min_runtime=_min_runtime(variant.artifact, settings, artifacts),
        health=HealthLimits(
            min_cosine=least_cosine(variant),
            max_latency_ns=math.ceil(measured.p95_ns * (1 + slower)),
            max_memory_bytes=math.ceil(measured.memory_bytes * (1 + request.margin)) or None,
            runs=_HEALTH_RUNS,
        ),
        measured=measured,
        scratch_bytes=_BUILDS_ENGINES.get(settings.runtime, 0) * variant.artifact.size_bytes,
        run_id=record.run_id,
    )


def _winner(record: RunRecord) -> Assessment:
    selection = record.selection
    if selection is None or selection.winner is None:
        why = "is not finished" if record.state == "running" else "has no winner: nothing met its budget"
        raise UsageError(
            f"run {record.run_id} {why}.", remedy="Choose under another budget: edgeopt deploy with looser limits."
        )
    return selection.assessment(selection.winner)


def _figures(winner: Assessment) -> HealthFigures:
    """What the run's device showed of the winner: the worst of its launches, as a limit must allow."""
    launches = [launch for launch in winner.candidate.measurements if launch.ok and launch.latency]
    if winner.latency_ns is None or not launches:
        raise UsageError(f"{winner.candidate.key} has no latency: no limit can be set.", remedy="Run it again.")
    cosines = [launch.correctness.cosine for launch in launches if launch.correctness]
    return HealthFigures(
        median_ns=round(winner.latency_ns.value),
        p95_ns=max(_p95_ns(launch) for launch in launches),
        memory_bytes=winner.memory_bytes or 0,
        cosine=min(cosines, default=0.0),
        runs=sum(len(launch.latency.samples_ns) for launch in launches if launch.latency),
    )


def _p95_ns(launch: Measurement) -> int:
    """The 95th percentile; of few samples the one that stands there, and no less than the slowest kind of input."""
    latency = launch.latency
    assert latency is not None
    if latency.p95_ns is not None:
        p95_ns = latency.p95_ns
    else:
        ordered = sorted(latency.samples_ns) or [latency.max_ns]
        p95_ns = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return max(p95_ns, latency.worst_ns or 0)


def _min_runtime(artifact: Artifact, settings: Settings, artifacts: ArtifactStore) -> str:
    if artifact.format != ONNX or settings.runtime != "onnxruntime":
        return ""
    found = inspect_onnx(artifacts.path(artifact))
    return oldest_reading(found.opset, found.ir_version)


def manifest_bytes(release: Release) -> bytes:
    """The release as boards read it: canonical JSON.

    Raises:
        UsageError: It is longer than boards take.
    """
    times = {"created": round(release.created), "expires": round(release.expires)}
    document = {**documents.plain(release), **times, "schema": SCHEMA}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = text.encode()
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise UsageError(
            f"the manifest of {release.name} has {len(data)} bytes; boards take {MANIFEST_LIMIT_BYTES}.",
            remedy="Shorten the notes, or publish fewer profiles in one release.",
        )
    return data


def same_content(one: Release, other: Release) -> bool:
    """Whether two releases give every board the same, whenever they were made."""
    return _content(one) == _content(other)


def _content(release: Release) -> object:
    plain = documents.plain(release)
    return {name: value for name, value in plain.items() if name not in ("counter", "created", "expires")}
