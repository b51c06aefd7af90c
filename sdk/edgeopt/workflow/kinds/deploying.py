"""The main job for several boards: variants are made once and measured on each kind at the same time.

The winner, one for each kind or one for all, is made active on every board.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from edgeopt import documents
from edgeopt.core.group import GroupRecord
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.run import RunRecord
from edgeopt.errors import EdgeoptError
from edgeopt.report.html import render_report
from edgeopt.report.kinds_page import render_kinds
from edgeopt.selection.common import common_winner, overruled
from edgeopt.store.keys import exact_key
from edgeopt.workflow import progress_file
from edgeopt.workflow.deploying import versions
from edgeopt.workflow.executors import check_executor
from edgeopt.workflow.kinds.crew import Crew
from edgeopt.workflow.kinds.finalists import common_finalists, share_variants
from edgeopt.workflow.kinds.kind import Kind, guarded
from edgeopt.workflow.kinds.looking import Group, common_settings, look_at_all
from edgeopt.workflow.kinds.shared import Shared
from edgeopt.workflow.kinds.targets import boards_named
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.preparing import Prepared, prepare
from edgeopt.workflow.progress_file import Recorded
from edgeopt.workflow.request import Request
from edgeopt.workflow.searching import require
from edgeopt.workflow.trying import Clock
from edgeopt.workflow.workspace import Workspace


def deploy_kinds(
    request: Request, workspace: Workspace, *, listener: Listener | None = None, now: Clock = time.time
) -> GroupRecord:
    """Run the main job on all boards of a target, or go on with it where an earlier call of the same was cut off.

    A board that drops out leaves its work to the others of its kind. What could not be done is in the record: its
    state is then ``incomplete``, and the same request goes on from there.

    Args:
        request: What to do; its target names several boards (`targets.boards_named`).
        workspace: Where everything is kept.
        listener: Hears of progress.
        now: Seconds since the epoch.

    Raises:
        EdgeoptError: The model, the samples or every board cannot be used. What was done stays in the ledger.
    """
    request.check()
    check_executor(request.executor)
    if request.search is not None:
        require(request.search)
    said = Shared(listener or Silence())
    looked = look_at_all(boards_named(request.target, workspace.inventory), request, said)
    settings = {name: common_settings(request, profile, crew.members) for name, (profile, crew) in looked.kinds.items()}
    prepared = prepare(request, workspace, said)
    with workspace.executing(request.executor) as working:
        run = _Run(request, working, prepared, looked, said, now)
        kinds = [run.kind(profile, crew, settings[name]) for name, (profile, crew) in looked.kinds.items()]
        try:
            run.work(kinds)
        except EdgeoptError as error:
            if not error.retryable:
                run.fail(kinds)
            raise
        return run.closed(kinds)


_LEFT = ("variants", "rejections", "layers", "trials", "selection", "deployment", "boards", "common")
"""Of a record: what an earlier call came to, which stands until this one comes to something else."""


class _Run:
    """A run for several boards.

    Attributes:
        group: Its name.
        said: Who hears of it: the user, and whoever follows the run as a whole.
        to_all: They, and whoever follows one of its kinds.
    """

    def __init__(
        self, request: Request, workspace: Workspace, prepared: Prepared, looked: Group, said: Shared, now: Clock
    ) -> None:
        self.request, self.workspace, self.prepared, self.looked, self.now = request, workspace, prepared, looked, now
        data, ledger = prepared.summary, workspace.ledger
        self._key = exact_key("group", [request.key(), prepared.model.artifact.digest, data.digest])
        unfinished = ledger.find_resumable(self._key)
        if unfinished is not None:
            said.note(f"Going on with run {unfinished.run_id}, which was cut off.")
        self.started_at = unfinished.started_at if unfinished else now()
        moment = time.strftime("%m%d-%H%M", time.localtime(self.started_at))
        self.group = unfinished.run_id if unfinished else f"{moment}-{secrets.token_hex(2)}"
        self._before = {record.run_id: record for record in ledger.group(self.group)} if unfinished else {}
        ledger.start_run(self.group, self._key, request.command_line(), started_at=self.started_at)
        self.said = self.to_all = said.also(self._recorded(self.group))

    def kind(self, profile: Profile, crew: Crew, settings: tuple[Settings, ...]) -> Kind:
        """A kind of boards; its record is in the ledger from now on, with what an earlier call left in it."""
        prepared, first = self.prepared, crew.members[0]
        record = RunRecord(
            run_id=f"{self.group}.{profile.name}",
            command=self.request.command_line(),
            state="running",
            started_at=self.started_at,
            finished_at=0.0,
            model=prepared.model,
            device=first.device,
            facts=first.facts,
            profile_name=profile.name,
            data=prepared.summary,
            versions=versions(),
            golden=prepared.golden,
            group=self.group,
            unreached=self.looked.unreached,
        )
        if before := self._before.get(record.run_id):
            record = dataclasses.replace(record, **{name: getattr(before, name) for name in _LEFT})
        key = exact_key("kind", [self._key, profile.name])
        self.workspace.ledger.start_run(record.run_id, key, record.command, started_at=self.started_at)
        recorded = self._recorded(record.run_id)
        self.to_all, said = self.to_all.also(recorded), self.said.also(recorded)
        crew = dataclasses.replace(crew, said=said)
        return Kind(self.request, self.workspace, prepared, said, profile, crew, settings, record)

    def _recorded(self, run_id: str) -> Recorded:
        """Whoever follows that run hears what this listener is told."""
        return Recorded(Silence(), self.workspace.run_folder(run_id) / progress_file.NAME, self.now)

    def work(self, kinds: Sequence[Kind]) -> None:
        """Variants, measurements, decisions, activation; every record is saved after each."""
        for kind in kinds:
            guarded(Kind.make)(kind)
        boards = sum(len(kind.crew.members) for kind in kinds)
        with ExitStack() as stack:
            self._each(kinds, lambda kind: kind.open(stack))
            self._each(kinds, lambda kind: kind.search(self.now))
            if self.request.one_for_all:
                share_variants(kinds)
            self.to_all.stage(f"Measuring on {boards} boards of {len(kinds)} kinds", 0)
            self._each(kinds, Kind.quick)
            wanted = common_finalists(kinds) if self.request.one_for_all else {}
            self.to_all.stage("Finals, on every board", 0)
            self._each(kinds, lambda kind: kind.heats.finals(wanted.get(kind.profile.name) or kind.heats.finalists()))
            self._each(kinds, Kind.decide)
            if self.request.one_for_all:
                self._choose_for_all(kinds)
            self.to_all.stage("Activating", 0)
            self._each(kinds, Kind.activate)

    def _choose_for_all(self, kinds: Sequence[Kind]) -> None:
        """One winner in place of each kind's own; nothing is chosen while a kind has not been measured."""
        chosen = {one.profile.name: one.decision for one in kinds if one.failed is None}
        missing = self._missing(kinds)
        if missing:
            self.to_all.note(f"There is no winner for all yet: {missing} could not be measured.")
        common = None if missing else common_winner(chosen, seed=self.request.seed)
        for kind in kinds:
            if kind.failed is None and missing:
                kind.wait(missing, self._before.get(kind.record.run_id))
            elif kind.failed is None:
                kind.conclude(overruled(kind.decision, common, kind.profile.name), common=common)

    def _missing(self, kinds: Sequence[Kind]) -> str:
        """Kinds without a say in this call, and boards of which nobody knows whether their kind has one."""
        earlier = {part.device.name: run.profile_name for run in self._before.values() for part in run.boards}
        known = {**earlier, **self.looked.presumed}
        measured = {kind.profile.name for kind in kinds if kind.failed is None}
        named = [*(kind.profile.name for kind in kinds), *(known.get(name, name) for name in self.looked.unreached)]
        return ", ".join(name for name in dict.fromkeys(named) if name not in measured)

    def _each(self, kinds: Sequence[Kind], do: Callable[[Kind], None]) -> None:
        """Have something done for all kinds at once; one that loses its last board does not stop the others."""
        self.said.at_once([partial(guarded(do), kind) for kind in kinds], "edgeopt-kind")

    def fail(self, kinds: Sequence[Kind]) -> None:
        """The run cannot go on."""
        for kind in kinds:
            kind.save(state="failed", finished_at=self.now())
        self.workspace.ledger.end_run(self.group, "failed", finished_at=self.now())

    def closed(self, kinds: Sequence[Kind]) -> GroupRecord:
        """Everything saved, with its pages; an incomplete run stays one to go on with."""
        for kind in kinds:
            kind.close(self.now)
        runs = {**self._out_of_reach(kinds), **{kind.record.run_id: kind.record for kind in kinds}}
        for run in runs.values():
            self._write(run.run_id, render_report(run))
        record = GroupRecord(self.group, tuple(runs[name] for name in sorted(runs)))  # as the ledger gives them
        if record.state != "incomplete":
            self.workspace.ledger.end_run(self.group, record.state, finished_at=self.now())
        self._write(self.group, render_kinds(record))
        return record

    def _out_of_reach(self, kinds: Sequence[Kind]) -> dict[str, RunRecord]:
        """Records of kinds that an earlier call had, and of which no board could be used in this one."""
        away, here = self.looked.unreached, {kind.record.run_id for kind in kinds}
        found = {}
        for run_id, run in self._before.items():
            if run_id not in here:
                parts = [dataclasses.replace(part, lost=away.get(part.device.name, part.lost)) for part in run.boards]
                found[run_id] = dataclasses.replace(run, boards=tuple(parts), unreached=away)
                self.workspace.ledger.save_run(found[run_id])
        return found

    def _write(self, name: str, page: str) -> None:
        documents.write_atomically(self.workspace.run_folder(name) / "report.html", page.encode())
