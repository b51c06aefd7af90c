"""The main job: compress, push, measure on the device, choose, activate; every step kept as it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgeopt import documents
from edgeopt.core.device import Device, DeviceFacts
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment, Selection
from edgeopt.core.space import Trial
from edgeopt.core.variant import Rejection, Variant
from edgeopt.errors import EdgeoptError, RunnerError
from edgeopt.remote.client import connect
from edgeopt.report.html import render_report
from edgeopt.selection.select import select
from edgeopt.store.keys import exact_key
from edgeopt.store.studies import StudyStore
from edgeopt.workflow import progress_file
from edgeopt.workflow.activating import activate
from edgeopt.workflow.benching import Parallel, of_runtimes, parallel_settings, require_readers, thread_settings
from edgeopt.workflow.executors import check_executor
from edgeopt.workflow.joining import search_together
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.optimizing import make_variants, maker_for
from edgeopt.workflow.preparing import Prepared, prepare
from edgeopt.workflow.progress_file import Recorded
from edgeopt.workflow.request import Request, app_name
from edgeopt.workflow.resolving import Aim, profile_for, resolve_target
from edgeopt.workflow.searching import require
from edgeopt.workflow.tracking.tracker import Forgiving, Tracker, Untracked
from edgeopt.workflow.trying import Field
from edgeopt.workflow.tuning import measure_all, readers
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import registry

Clock = Callable[[], float]
_TOOLS = ("edgeopt", "onnx", "onnxruntime", "onnxslim", "numpy", "torch", "paramiko")


@dataclass(frozen=True)
class _Run:
    """What every step of one run needs."""

    request: Request
    workspace: Workspace
    listener: Listener
    now: Clock
    profile: Profile
    prepared: Prepared
    tracker: Tracker

    def save(self, record: RunRecord, **changes: Any) -> RunRecord:
        """Keep the record with its changes in the ledger."""
        changed = dataclasses.replace(record, **changes)
        self.workspace.ledger.save_run(changed)
        self.tracker.saved(changed)
        return changed

    def fail(self, run_id: str) -> None:
        """The run cannot go on; what its steps have kept stays."""
        self.save(self.workspace.ledger.run(run_id), state="failed", finished_at=self.now())


def deploy(
    request: Request,
    workspace: Workspace,
    *,
    listener: Listener | None = None,
    tracker: Tracker | None = None,
    now: Clock = time.time,
) -> RunRecord:
    """Run the main job, or go on with it where an earlier call of the same request was cut off.

    Args:
        request: What to do.
        workspace: Where everything is kept.
        listener: Hears of progress.
        tracker: Keeps the run beside the ledger; where it fails, the run goes on without it.
        now: Seconds since the epoch.

    Returns:
        The record; its state is ``done``, or ``infeasible`` when no variant meets the budget.

    Raises:
        EdgeoptError: The model, the samples or the device cannot be used. What was done stays in the ledger.
    """
    request.check()
    if request.search is not None:
        require(request.search)
    check_executor(request.executor)
    said = listener or Silence()
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    said.stage("Looking at the device", 0)
    with connect(aim.device) as connection, connection.lease("looking at the device"):
        facts = connection.probe()
    profile = profile_for(aim, facts, request.target, said)
    require_runtime(facts, profile, aim.device)
    said.advance(f"{facts.model or facts.cpu or aim.device.name}, profile {profile.name}")
    prepared = prepare(request, workspace, said)
    told = Forgiving(tracker, said) if tracker else Untracked()
    with workspace.executing(request.executor) as working:
        run = _Run(request, working, said, now, profile, prepared, told)
        record = _begin(run, aim, facts)
        followed = Recorded(said, workspace.run_folder(record.run_id) / progress_file.NAME, now)
        run = dataclasses.replace(run, listener=followed)
        try:
            return _finish(run, record)
        except EdgeoptError as error:
            if not error.retryable:  # else it counts as cut off, and the same command goes on with it
                run.fail(record.run_id)
            raise
        finally:
            told.left()


def require_runtime(facts: DeviceFacts, profile: Profile, device: Device) -> None:
    """Refuse a device that has nothing to run a network with.

    Raises:
        RunnerError: Says how to install something.
    """
    if any(facts.runtime(name) for name in profile.runtimes):
        return
    name = device.name
    remedy = f"Install it there: edgeopt device provision {name}."
    if device.transport == "local":
        remedy = f"Install it here: pip install {profile.runtimes[0]}."
    raise RunnerError(
        f"{name} has none of the runtimes that profile {profile.name!r} uses ({', '.join(profile.runtimes)}).",
        remedy=remedy,
        status="runtime_missing",
    )


def _begin(run: _Run, aim: Aim, facts: DeviceFacts) -> RunRecord:
    """Take up an unfinished run of the same request, or start a new one."""
    ledger, model, data = run.workspace.ledger, run.prepared.model, run.prepared.summary
    key = exact_key("run", [run.request.key(), model.artifact.digest, data.digest, facts.fingerprint])
    unfinished = ledger.find_resumable(key)
    if unfinished is not None:
        run.listener.note(f"Going on with run {unfinished.run_id}, which was cut off.")
    started_at = unfinished.started_at if unfinished else run.now()
    moment = time.strftime("%m%d-%H%M", time.localtime(started_at))
    record = RunRecord(
        run_id=unfinished.run_id if unfinished else f"{moment}-{secrets.token_hex(2)}",
        command=run.request.command_line(),
        state="running",
        started_at=started_at,
        finished_at=0.0,
        model=model,
        device=aim.device,
        facts=facts,
        profile_name=run.profile.name,
        data=data,
        versions=versions(),
        golden=run.prepared.golden,
    )
    ledger.start_run(record.run_id, key, record.command, started_at=started_at)
    return run.save(record)


def _finish(run: _Run, record: RunRecord) -> RunRecord:
    """Variants, measurements, decision, activation; the record is saved after each."""
    made = make_variants(run.request, run.prepared, record.facts, run.profile, run.workspace, run.listener)
    record = run.save(record, variants=made.variants, rejections=made.rejections, layers=made.layers)
    record = _search(run, record)
    with _bench(run, record) as bench:
        record = _decide(run, record, bench)
        record = _activate(run, record, bench)
    state = "done" if record.selection and record.selection.winner else "infeasible"
    record = run.save(record, state=state, finished_at=run.now())
    page = render_report(record)
    documents.write_atomically(run.workspace.run_folder(record.run_id) / "report.html", page.encode())
    run.tracker.ended(record, page)
    return record


def _search(run: _Run, record: RunRecord) -> RunRecord:
    """Add what a search finds to the variants, where the user wants one; every trial is saved as it ends."""
    wanted = run.request.search
    if wanted is None:
        return record

    def keep(trials: tuple[Trial, ...]) -> None:
        nonlocal record
        record = run.save(record, trials=trials)

    def hold(trial: Trial, variant: Variant) -> None:
        told = {"objectives": trial.objectives, "meets_budget": trial.excess == 0, "reason": trial.reason}
        write_best(run.workspace, record.run_id, variant, told)

    maker = maker_for(run.request, run.prepared, record.facts, run.workspace, training=True, listener=run.listener)
    field = Field(maker, run.profile, _settings(run, record), lambda: _bench(run, record), keep, hold, run.listener)
    with StudyStore(run.workspace.ledger.url) as store:
        mark = record.run_id if run.request.fresh else ""
        _, found = search_together(field, wanted, store, now=run.now, mark=mark)
    variants = [one for one in found if isinstance(one, Variant)]
    rejections = [one for one in found if isinstance(one, Rejection)]
    return run.save(record, variants=(*record.variants, *variants), rejections=(*record.rejections, *rejections))


def _decide(run: _Run, record: RunRecord, bench: Bench) -> RunRecord:
    """Measure all variants and choose."""
    request, settings = run.request, _settings(run, record)
    suited = [one for variant in record.variants for one in readers(bench, settings, variant)]
    require_readers(suited, record.variants[0], record.facts, record.device)
    found = measure_all(bench, record.variants, settings, effort=request.effort, launches=request.rounds)
    selection = select(found.candidates, request.budget, noise=found.noise, seed=request.seed)
    keep_best(record, selection, run.workspace)
    for rejection in found.rejections:
        run.listener.note(f"Left out {rejection.name}: {rejection.reason}")
    return run.save(
        record,
        selection=selection,
        forecast=found.forecast,
        rejections=(*record.rejections, *found.rejections),
        notes=record.notes + _reuse_note(bench),
    )


def _settings(run: _Run, record: RunRecord) -> tuple[Settings, ...]:
    return settings_of(run.request, run.profile, record.facts)


def settings_of(request: Request, profile: Profile, facts: DeviceFacts) -> tuple[Settings, ...]:
    """What every variant is measured with on a device.

    Raises:
        UsageError: The user asked for a runtime that it does not have, or for more threads than it has CPUs.
    """
    offered = of_runtimes(registry.target(profile.target).settings(profile, facts), request.runtimes)
    settings = thread_settings(offered, request.threads, facts)
    return parallel_settings(settings, Parallel(inter_op=request.inter_op, sessions=request.sessions), facts)


def _activate(run: _Run, record: RunRecord, bench: Bench) -> RunRecord:
    """Make the winner active, where there is one and the user wants it."""
    selection = record.selection
    if selection is None or selection.winner is None or not run.request.activate:
        return record
    run.listener.stage("Activating", 0)
    app = run.request.app or app_name(record.model.name)
    deployment = activate(bench, selection.assessment(selection.winner), app)
    run.workspace.ledger.remember_deployment(record.run_id, deployment)
    run.listener.advance(f"{app}, release {deployment.release}")
    return run.save(record, deployment=deployment)


@contextlib.contextmanager
def _bench(run: _Run, record: RunRecord) -> Iterator[Bench]:
    """The device, connected and leased."""
    with connect(record.device) as connection, connection.lease(f"run {record.run_id}"):
        yield Bench(
            workspace=run.workspace,
            connection=connection,
            facts=record.facts,
            profile=run.profile,
            prepared=run.prepared,
            budget=run.request.budget,
            run_id=record.run_id,
            fresh=run.request.fresh,
            listener=run.listener,
        )


def _reuse_note(bench: Bench) -> tuple[str, ...]:
    if not bench.reused:
        return ()
    count = len(bench.reused)
    return (f"{count} measurements came from the ledger (same files, device and settings); --fresh repeats them.",)


def keep_best(record: RunRecord, selection: Selection, workspace: Workspace) -> None:
    """The best so far as a plain file, whatever happens next."""
    if selection.best_so_far is None:
        return
    best: Assessment = selection.assessment(selection.best_so_far)
    settings = documents.plain(best.candidate.settings)
    told = {"settings": settings, "meets_budget": best.feasible, "reason": best.reason}
    write_best(workspace, record.run_id, best.candidate.variant, told)


def write_best(workspace: Workspace, run_id: str, variant: Variant, told: Mapping[str, Any]) -> None:
    """The best so far of a run as a plain file, with what is known of it."""
    folder, artifact = workspace.run_folder(run_id), variant.artifact
    documents.write_atomically(folder / f"best.{artifact.format}", workspace.artifacts.path(artifact).read_bytes())
    about = {"variant": documents.plain(variant), **told}
    documents.write_atomically(folder / "best.json", json.dumps(about, indent=2).encode())


def versions() -> dict[str, str]:
    """Versions of the libraries here, for the record."""
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
