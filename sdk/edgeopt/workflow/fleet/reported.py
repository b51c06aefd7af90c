"""What boards that pull have put into their store: who reported what, how old it is, and what is wrong there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.fleet import Board
from edgeopt.core.sighting import Sighting
from edgeopt.errors import SigningError
from edgeopt.publishing.reports import BoardReport, read_reports
from edgeopt.workflow.fleet.agents import PullingBoard, pulling_boards
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol.offers import Offer

STALE_POLLS = 2 * 48
"""A board reports at the latest at every 48th poll (`edgeopt_runner.agent.run`); past two of these it is away."""

_CLOCK_IS_SET = 1_700_000_000.0
_BAD = frozenset({"rolled_back", "aborted", "safe_stop", "refused", "failed", "drift"})


@dataclass(frozen=True)
class Reports:
    """The latest report of each board, and what the boards were told when they were enrolled.

    Attributes:
        known: Boards that pull, by name.
        found: Reports, by name.
        offers: What is offered, by app.
        now: Seconds since the epoch.
        trouble: Why it is not known what is offered; empty where it is.
    """

    known: Mapping[str, PullingBoard] = field(default_factory=dict)
    found: Mapping[str, BoardReport] = field(default_factory=dict)
    offers: Mapping[str, Offer] = field(default_factory=dict)
    now: float = 0.0
    trouble: str = ""

    @classmethod
    def read(cls, url: str, workspace: Workspace, now: float) -> Reports:
        """Read the reports; where no address is given, only what is known here.

        A signed tree that is missing or cannot be read is told, and hides no board: what they run is known without it.

        Raises:
            UsageError: The address is none.
            ToolError: The package for that kind of store is not installed.
            StoreError: The store, or what is known here, cannot be read.
        """
        known = pulling_boards(workspace)
        if not known:
            return cls(now=now)
        from edgeopt.workflow.fleet.offering import standing_offers  # late: most fleets need no python-tuf to be seen

        offers, trouble = {}, ""
        try:
            offers = {one.offer.app: one.offer for one in standing_offers(workspace)}
        except SigningError as error:
            trouble = error.message
        keys = {name: board.public_key for name, board in known.items()}
        found = {one.board: one for one in read_reports(url, keys)} if url else {}
        return cls(known, found, offers, now, trouble)

    def offered(self, name: str) -> tuple[str, ...]:
        """Apps that a board chooses itself; none where it does not pull."""
        return tuple(self.offers) if name in self.known else ()

    def sighting(self, board: Board) -> Sighting | None:
        """What a board reported; ``None`` where it has to be asked."""
        report = self._believed(board.name)
        if report is None:
            return None
        told, seen = self.known[board.name], _moment(report, self.now)
        stale = self.now - seen > STALE_POLLS * told.every_seconds
        profile = board.profile or told.profile
        detail = "no report since" if stale else ""
        return Sighting(board.name, profile, not stale, self.now, seen, detail, report.apps, True, report.hardware)

    def _believed(self, name: str) -> BoardReport | None:
        report = self.found.get(name)
        return report if report is not None and report.authentic and not report.problem else None

    def problems(self, name: str) -> tuple[str, ...]:
        """What is wrong with a board by its report, or with the report."""
        report = self.found.get(name)
        if report is None or name not in self.known:
            return ()
        if report.problem:
            return (f"report {report.number} cannot be read: {report.problem}",)
        if not report.authentic:
            return (f"report {report.number} is not signed by the key of its enrolment: not believed",)
        updates = (report.updates or {}).items()
        bad = [f"{app}: {outcome}, {reason}" for app, (outcome, reason) in updates if outcome in _BAD]
        moved = "its disk was enrolled in other hardware: a clone, or moved to another board. Enrol it again"
        trouble = f"it does not follow its store: {report.trouble}"
        return (*bad, *[trouble] * bool(report.trouble), *[moved] * report.moved)

    def notes(self, name: str, *, reachable: bool) -> tuple[str, ...]:
        """What is offered to a board that reported another version; where something was not read, that."""
        report, told = self._believed(name), self.known.get(name)
        if told is None:
            return ()
        if self.trouble:
            return (f"it pulls, and what is offered to it is not known: {self.trouble.rstrip('.')}",)
        if report is None:
            unread = told.report_url and not self.found and not reachable
            return ("it pulls: --reports URL shows what it reported",) if unread else ()
        running = {row.app: row.version for row in report.apps}
        ready = [offer for offer in self.offers.values() if not told.why_not(name, offer)]
        return tuple(f"{one.app}@{one.release} is offered" for one in ready if running.get(one.app) != one.release)


def _moment(report: BoardReport, now: float) -> float:
    """When a board reported: by its own clock, which it signed; by the store's where that is not set or ahead."""
    return float(report.time) if _CLOCK_IS_SET < report.time <= now else report.stored_at
