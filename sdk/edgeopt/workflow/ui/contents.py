"""What the local page shows, read from the stores each time it is asked for; nothing is written, no device is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

from edgeopt.core.device import LOCAL, Device, DeviceFacts
from edgeopt.core.run import RunRecord
from edgeopt.core.sighting import Sighting
from edgeopt.errors import StoreError
from edgeopt.report.local_page import DeviceView, RolloutView, RunView
from edgeopt.store.ledger import RunSummary
from edgeopt.store.rollouts import RolloutStore
from edgeopt.workflow import progress_file
from edgeopt.workflow.fleet.status import sightings_of
from edgeopt.workflow.progress_file import Followed
from edgeopt.workflow.workspace import Workspace

MOST_RUNS = 200
_MOST_ROLLOUTS = 100


@dataclass
class Contents:
    """The stores, and what was read of them that does not change; threads may share it.

    Attributes:
        workspace: Runs, devices, and the folders of runs.
        rollouts: The rollouts, in the same database.
    """

    workspace: Workspace
    rollouts: RolloutStore
    _followed: dict[str, Followed] = field(default_factory=dict)
    _record: tuple[object, RunRecord | None] = (None, None)
    _facts: dict[str, DeviceFacts | None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def runs(self) -> tuple[tuple[RunView, ...], bool]:
        """The newest runs, and whether there are more.

        Raises:
            StoreError: The ledger cannot be read.
        """
        found = self.workspace.ledger.runs(MOST_RUNS + 1)
        kinds: dict[str, list[RunSummary]] = {}
        for line in found:
            group, _, profile = line.run_id.partition(".")
            if profile:
                kinds.setdefault(group, []).append(line)
        views = (replace(self._view(line), kinds=tuple(kinds.get(line.run_id, ()))) for line in found[:MOST_RUNS])
        return tuple(views), len(found) > MOST_RUNS

    def run(self, run_id: str) -> tuple[RunView, RunRecord | None]:
        """A run as it stands, and its record where it has one.

        Raises:
            StoreError: There is no such run, or its record cannot be decoded.
        """
        view = self._view(self.workspace.ledger.summary(run_id), ended_too=True)
        if not view.line.model:
            return replace(view, kinds=self.workspace.ledger.kinds(run_id)), None
        line, progress = view.line, view.progress
        said = (progress.begun, len(progress.stages), progress.steps)
        stands = (run_id, line.state, line.finished_at, line.winner, said)
        with self._lock:
            if self._record[0] != stands:  # a record can have megabytes, and the page asks each second
                self._record = stands, self.workspace.ledger.run(run_id)
            return view, self._record[1]

    def devices(self) -> tuple[DeviceView, ...]:
        """This computer, the inventory, and what else the newest runs were on.

        Raises:
            DocumentError: The inventory cannot be read.
            StoreError: The ledger or the boards' last answers cannot be read.
        """
        runs: dict[str, list[RunSummary]] = {}
        for line in self.workspace.ledger.runs(MOST_RUNS):
            if line.device:
                runs.setdefault(line.device, []).append(line)
        known = {device.name: device for device in (LOCAL, *self.workspace.inventory.devices())}
        answered = {one.board: one.seen_at for one in self.boards()}
        return tuple(
            self._device(known.get(name), name, runs.get(name, []), answered.get(name, 0.0))
            for name in dict.fromkeys((*known, *runs))
        )

    def boards(self) -> tuple[Sighting, ...]:
        """What each board answered last, by name.

        Raises:
            StoreError: The file of answers cannot be read.
        """
        return sightings_of(self.workspace).all()

    def fleet(self) -> tuple[RolloutView, ...]:
        """The rollouts, the newest first.

        Raises:
            StoreError: The ledger cannot be read.
        """
        found = self.rollouts.rollouts(_MOST_ROLLOUTS)
        counts = self.rollouts.counts([one.rollout_id for one in found])
        return tuple(RolloutView(one, counts[one.rollout_id]) for one in found)

    def _view(self, line: RunSummary, *, ended_too: bool = False) -> RunView:
        """A run with its progress; of one that has ended only where it is asked for by name."""
        if line.state != "running" and not ended_too:
            return RunView(line)
        with self._lock:
            path = self.workspace.run_folder(line.run_id) / progress_file.NAME
            followed = self._followed.setdefault(line.run_id, Followed(path))
        return RunView(line, followed.catch_up())

    def _device(self, device: Device | None, name: str, runs: Sequence[RunSummary], answered: float) -> DeviceView:
        if not runs:
            return DeviceView(device, name, seen_at=answered)
        newest = runs[0]
        seen_at = max(newest.started_at, newest.finished_at, answered)
        return DeviceView(device, name, self._facts_of(newest.run_id), seen_at, len(runs), newest.run_id)

    def _facts_of(self, run_id: str) -> DeviceFacts | None:
        """What the device said at the beginning of a run; ``None`` where another version of edgeopt kept it."""
        if run_id not in self._facts:
            try:
                self._facts[run_id] = self.workspace.ledger.run(run_id).facts
            except StoreError:
                self._facts[run_id] = None
        return self._facts[run_id]
