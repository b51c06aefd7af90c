"""The pages of `edgeopt ui`: runs, devices, rollouts, and a run that is followed while it is at work.

Each page is a frame with a part in it; the page's script asks for the part again and puts in what has changed. Without
scripts the part stands as it was when the page was opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.core.device import Device, DeviceFacts
from edgeopt.core.progress import Progress
from edgeopt.core.run import RunRecord
from edgeopt.core.sighting import Sighting
from edgeopt.report import attempts, fleet_summary, page, summary
from edgeopt.store.ledger import RunSummary
from edgeopt.store.rollouts import RolloutSummary

STATES = {
    "running": "… at work",
    "cut off": "‖ cut off",
    "done": "★ done",
    "infeasible": "✗ misses the budget",
    "failed": "! failed",
}
"""What the state of a run is called: a sign and a word, so that colour is never the only signal."""


@dataclass(frozen=True)
class RunView:
    """A run as the ledger lists it, and how far it is.

    Attributes:
        line: What the ledger has of it.
        progress: What it said; empty where nobody recorded it.
        kinds: Of a run for several boards: what the ledger has of each kind.
    """

    line: RunSummary
    progress: Progress = field(default_factory=Progress)
    kinds: tuple[RunSummary, ...] = ()

    @property
    def model(self) -> str:
        """Name of the network; empty until it is known."""
        return self.line.model or next((one.model for one in self.kinds), "")

    @property
    def target(self) -> str:
        """Name of the device, or the profiles of several; empty until it is known."""
        return self.line.device or ", ".join(one.run_id.partition(".")[2] for one in self.kinds)

    @property
    def state(self) -> str:
        """As the ledger says, or ``cut off`` where its process is gone."""
        return "cut off" if self.line.cut_off else self.line.state


@dataclass(frozen=True)
class DeviceView:
    """A device, and what is known of it without asking it.

    Attributes:
        device: How it is reached; ``None`` where it is not in the inventory (any more).
        name: Its name.
        facts: What it said of itself in its newest run; ``None`` where it had none.
        seen_at: When it answered last, in seconds since the epoch; 0 where it never did.
        runs: How many runs it had, of those that were looked at.
        newest_run: Id of the last of them; empty where there was none.
    """

    device: Device | None
    name: str
    facts: DeviceFacts | None = None
    seen_at: float = 0.0
    runs: int = 0
    newest_run: str = ""


@dataclass(frozen=True)
class RolloutView:
    """A rollout as the ledger lists it, with its boards by state."""

    line: RolloutSummary
    counts: Counter[str]

    @property
    def failed(self) -> int:
        """Boards that failed, went back or run nothing."""
        return sum(self.counts[state] for state in fleet_summary.FAILED)


def render_runs(runs: Sequence[RunView], *, more: bool, part: bool = False) -> str:
    """The list of runs, the newest first; `more`: there are older ones that are not listed."""
    return _render("local_runs.html", "Runs", part, runs=runs, more=more)


def render_run(run: RunView, record: RunRecord | None, *, part: bool = False) -> str:
    """A run: how far it is, what it said, and what its search has tried.

    Args:
        run: As it stands.
        record: What the ledger has of it; ``None`` where it ended before anything was known.
        part: Only what changes.
    """
    strip = attempts.trial_strip(record) if record and record.trials else None
    words = {"strip": strip, "searched": summary.search_line(record) if record else ""}
    return _render("local_run.html", f"Run {run.line.run_id}", part, run=run, record=record, summary=summary, **words)


def render_devices(devices: Sequence[DeviceView], *, part: bool = False) -> str:
    """The devices, with what each said of itself."""
    return _render("local_devices.html", "Devices", part, devices=devices)


def render_fleet(rollouts: Sequence[RolloutView], boards: Sequence[Sighting], *, part: bool = False) -> str:
    """The rollouts, the newest first, and what each board said last."""
    return _render("local_fleet.html", "Fleet", part, rollouts=rollouts, boards=boards, marks=fleet_summary.MARKS)


def render_problem(message: str, remedy: str, *, part: bool = False) -> str:
    """What could not be shown, and what to do about it."""
    return _render("local_problem.html", "Problem", part, message=message, remedy=remedy)


def _render(name: str, title: str, part: bool, **values: Any) -> str:
    found = page.environment()
    inner = found.get_template(name).render(STATES=STATES, **values)
    if part:
        return inner
    style = page.style("rollout.css", "local.css")
    script = page.resource("templates", "local.js")
    return found.get_template("local.html").render(
        title=title,
        inner=page.trusted(inner),
        style=page.trusted(style),
        script=page.trusted(script),
        policy=page.policy([script], style, "connect-src 'self'", "img-src data:"),
    )
