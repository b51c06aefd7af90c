"""The main job for several boards: variants are made once and measured on each kind at the same time.

The winner, one for each kind or one for all, is made active on every board.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from edgeopt import documents
from edgeopt.core.deployment import Deployment
from edgeopt.core.group import GroupRecord
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.run import RunRecord
from edgeopt.errors import EdgeoptError
from edgeopt.report.html import render_report
from edgeopt.report.kinds_page import render_kinds
from edgeopt.selection.common import common_winner, overruled
from edgeopt.store.keys import exact_key
from edgeopt.workflow.deploying import versions
from edgeopt.workflow.executors import check_executor
from edgeopt.workflow.kinds.crew import Crew, Shared
from edgeopt.workflow.kinds.finalists import common_finalists, share_variants
from edgeopt.workflow.kinds.kind import Kind, guarded
from edgeopt.workflow.kinds.looking import common_settings, look_at_all
from edgeopt.workflow.kinds.targets import boards_named
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.preparing import Prepared, prepare
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
    group = look_at_all(boards_named(request.target, workspace.inventory), request, said)
    settings = {name: common_settings(request, profile, crew.members) for name, (profile, crew) in group.kinds.items()}
    prepared = prepare(request, workspace, said)
    with workspace.executing(request.executor) as working:
        run = _Run(request, working, prepared, said, now)
        kinds = [run.kind(profile, crew, settings[name]) for name, (profile, crew) in group.kinds.items()]
        try:
            run.work(kinds)
        except EdgeoptError as error:
            if not error.retryable:
                run.fail(kinds)
            raise
        return run.closed(kinds, group.unreached)


class _Run:
    """A run for several boards; `group` is its name."""

    def __init__(self, request: Request, workspace: Workspace, prepared: Prepared, said: Shared, now: Clock) -> None:
        self.request, self.workspace, self.prepared, self.said, self.now = request, workspace, prepared, said, now
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

    def kind(self, profile: Profile, crew: Crew, settings: tuple[Settings, ...]) -> Kind:
        """A kind of boards with its record, which is in the ledger from now on."""
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
        )
        key = exact_key("kind", [self._key, profile.name])
        self.workspace.ledger.start_run(record.run_id, key, record.command, started_at=self.started_at)
        return Kind(self.request, self.workspace, prepared, self.said, profile, crew, settings, record)

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
            self.said.stage(f"Measuring on {boards} boards of {len(kinds)} kinds", 0)
            self._each(kinds, Kind.quick)
            wanted = common_finalists(kinds) if self.request.one_for_all else {}
            self.said.stage("Finals, on every board", 0)
            self._each(kinds, lambda kind: kind.heats.finals(wanted.get(kind.profile.name) or kind.heats.finalists()))
            self._each(kinds, Kind.decide)
            if self.request.one_for_all:
                self._choose_for_all(kinds)
            self.said.stage("Activating", 0)
            self._each(kinds, lambda kind: kind.activate(self._active(kind)))

    def _choose_for_all(self, kinds: Sequence[Kind]) -> None:
        """One winner in place of each kind's own; nothing is chosen while a kind has not been measured."""
        if missing := [kind.profile.name for kind in kinds if kind.record.selection is None]:
            self.said.note(f"There is no winner for all yet: {', '.join(missing)} could not be measured.")
        found = {one.profile.name: one.record.selection for one in kinds if one.record.selection is not None}
        common = None if missing else common_winner(found, seed=self.request.seed)
        for kind in kinds:
            if kind.record.selection is not None:
                selection = overruled(kind.record.selection, common, kind.profile.name)
                kind.conclude(selection, common=common)

    def _active(self, kind: Kind) -> dict[str, Deployment]:
        before = self._before.get(kind.record.run_id)
        return {part.device.name: part.deployment for part in before.boards if part.deployment} if before else {}

    def _each(self, kinds: Sequence[Kind], do: Callable[[Kind], None]) -> None:
        """Have something done for all kinds at once; one that loses its last board does not stop the others."""
        with ThreadPoolExecutor(len(kinds), thread_name_prefix="edgeopt-kind") as threads:
            waiting = [threads.submit(guarded(do), kind) for kind in kinds]
            try:
                for one in waiting:
                    one.result()
            except BaseException:
                self.said.stop()
                raise

    def fail(self, kinds: Sequence[Kind]) -> None:
        """The run cannot go on."""
        for kind in kinds:
            kind.save(state="failed", finished_at=self.now())
        self.workspace.ledger.end_run(self.group, "failed", finished_at=self.now())

    def closed(self, kinds: Sequence[Kind], unreached: dict[str, str]) -> GroupRecord:
        """Everything saved, with its pages; an incomplete run stays one to go on with."""
        left_out = tuple(f"{name} could not be used: {reason}" for name, reason in unreached.items())
        for kind in kinds:
            kind.record = dataclasses.replace(kind.record, notes=(*kind.record.notes, *left_out))
            kind.close(self.now)
            self._write(kind.record.run_id, render_report(kind.record))
        runs = sorted((kind.record for kind in kinds), key=lambda run: run.run_id)  # as the ledger gives them
        record = GroupRecord(self.group, tuple(runs), unreached)
        if record.state != "incomplete":
            self.workspace.ledger.end_run(self.group, record.state, finished_at=self.now())
        self._write(self.group, render_kinds(record))
        return record

    def _write(self, name: str, page: str) -> None:
        documents.write_atomically(self.workspace.run_folder(name) / "report.html", page.encode())
