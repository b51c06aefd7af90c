"""A release: for each profile the variant that won there, and what a board must see of it before it may stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings


@dataclass(frozen=True)
class HealthFigures:
    """What a board measured of a release, on its golden inputs.

    Attributes:
        median_ns: Median of the timed inferences.
        p95_ns: Their 95th percentile.
        memory_bytes: Peak resident memory of the process.
        cosine: Smallest cosine similarity to the golden outputs.
        runs: Timed inferences.
        disturbed: Why the figures say little (throttled, clock fell, busy); empty where nothing was seen.
    """

    median_ns: int
    p95_ns: int
    memory_bytes: int
    cosine: float
    runs: int
    disturbed: str = ""


@dataclass(frozen=True)
class HealthLimits:
    """What a board must measure of a release before it keeps it.

    Attributes:
        min_cosine: Least similarity to the golden outputs.
        max_latency_ns: Bound on the 95th percentile; ``None``: not limited.
        max_memory_bytes: Bound on the peak resident memory of the process; ``None``: not limited.
        runs: Timed inferences.
    """

    min_cosine: float
    max_latency_ns: int | None = None
    max_memory_bytes: int | None = None
    runs: int = 50


@dataclass(frozen=True)
class ReleaseEntry:
    """What a release has for the boards of one profile.

    Attributes:
        variant: Name of the variant, for people.
        model: The file that was measured.
        golden: Sample file: inputs and the outputs that the model must give.
        settings: How it is run.
        machines: What ``uname -m`` may say there, for example ``("aarch64",)``; empty: anything.
        min_runtime: Oldest version of the runtime that reads the file; empty: any.
        health: What each board must measure.
        measured: What was measured when it was chosen; ``None`` where nothing was.
        scratch_bytes: Space that staging needs beside the files (an engine built on the board).
        run_id: The run that chose it.
    """

    variant: str
    model: Artifact
    golden: Artifact
    settings: Settings
    machines: tuple[str, ...]
    min_runtime: str
    health: HealthLimits
    measured: HealthFigures | None = None
    scratch_bytes: int = 0
    run_id: str = ""

    @property
    def install_bytes(self) -> int:
        """What the files take on a board."""
        return self.model.size_bytes + self.golden.size_bytes


@dataclass(frozen=True)
class Release:
    """A version of an app for a whole fleet.

    Attributes:
        app: Name that applications load it by.
        version: For people and commands: ``1.4.0``.
        counter: Rises with every release of the app; a board refuses one below the highest that it has committed.
        created: Seconds since the epoch.
        expires: Seconds since the epoch; past it no board begins to install it.
        entries: By name of the profile.
        revoked: Versions that no board may go back to.
        restores: The version whose content this one brings back (an authorised downgrade); empty for a new one.
        notes: For people.
    """

    app: str
    version: str
    counter: int
    created: float
    expires: float
    entries: Mapping[str, ReleaseEntry]
    revoked: tuple[str, ...] = ()
    restores: str = ""
    notes: str = ""

    @property
    def name(self) -> str:
        """``app@version``, as commands take it."""
        return f"{self.app}@{self.version}"

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Every file of the release, none twice."""
        files = [file for entry in self.entries.values() for file in (entry.model, entry.golden)]
        return tuple({file.digest: file for file in files}.values())


@dataclass(frozen=True)
class BoardRelease:
    """What a board says it has of an app.

    Attributes:
        app: The app.
        version: Of the active release; empty for one that ``deploy`` put there without a release.
        counter: Its counter; 0 likewise.
        manifest: SHA-256 of the active release's signed manifest; empty likewise.
        model: SHA-256 of the active model.
        number: Number of the active release on that board.
        previous, golden: Versions of those releases; empty where there is none (or it has no version).
        highest: Highest counter that the board has committed.
        running: Digests of the models that applications there have open now.
        verified: Whether the active files were hashed and fit their manifest.
        signed: Whether the active release was verified against the board's trust root.
        state: ``idle``, or the step of the transaction that is under way or was interrupted, or ``safe_stop``.
        failed: Versions that failed here, with the reason.
        figures: What the last health check measured; ``None`` where there was none.
    """

    app: str
    version: str = ""
    counter: int = 0
    manifest: str = ""
    model: str = ""
    number: int = 0
    previous: str = ""
    golden: str = ""
    highest: int = 0
    running: tuple[str, ...] = ()
    verified: bool = False
    signed: bool = False
    state: str = "idle"
    failed: Mapping[str, str] = field(default_factory=dict)
    figures: HealthFigures | None = None
