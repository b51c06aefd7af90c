"""A run for several boards: one run for each kind of them, under one name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.core.kinds import Common
from edgeopt.core.run import RunRecord


@dataclass(frozen=True)
class GroupRecord:
    """What came of a run for several boards.

    Attributes:
        group: Its name; the run of a kind is called ``GROUP.PROFILE``.
        runs: One for each kind, by its profile.
    """

    group: str
    runs: tuple[RunRecord, ...]

    @property
    def unreached(self) -> Mapping[str, str]:
        """Boards that could not be used at all, with the reason."""
        return {name: reason for run in self.runs for name, reason in run.unreached.items()}

    @property
    def common(self) -> Common | None:
        """The one winner for all kinds, where one was asked for and found."""
        return self.runs[0].common if self.runs else None

    @property
    def lost(self) -> dict[str, str]:
        """Boards that dropped out, with the reason."""
        parts = [part for run in self.runs for part in run.boards]
        return {**self.unreached, **{part.device.name: part.lost for part in parts if part.lost}}

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Profiles of the kinds that have not chosen."""
        return tuple(run.profile_name for run in self.runs if run.state not in ("done", "infeasible"))

    @property
    def state(self) -> str:
        """``incomplete`` where a board dropped out or a kind has not chosen, else ``infeasible`` where one has no
        winner, else ``done``.
        """
        if self.lost or self.incomplete:
            return "incomplete"
        return "infeasible" if any(run.state == "infeasible" for run in self.runs) else "done"
