"""Measures one model as it is on a device, nothing else."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.core.device import Device, DeviceFacts
from edgeopt.core.formats import READERS
from edgeopt.core.measurement import Measurement
from edgeopt.core.plan import PACED, PLANS, Plan
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.core.variant import Variant
from edgeopt.errors import RunnerError, UsageError
from edgeopt.remote.client import connect
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.optimizing import maker_for, readable_original
from edgeopt.workflow.preparing import prepare
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import profile_for, resolve_target
from edgeopt.workflow.tuning import readers
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import registry
from edgeopt_targets.runtimes import RUNTIMES

LARGEST_BATCH = 4096
"""Samples in one request at most; the runner takes no more either."""


def plan_named(name: str, fps: float | None = None) -> Plan:
    """A plan by name; `fps` is the arrival rate of ``paced``.

    Raises:
        UsageError: No such plan, or a rate that is not above zero or not for this plan.
    """
    if name not in PLANS:
        raise UsageError(f"--plan {name!r} is not known.", remedy=f"Use one of {', '.join(PLANS)}.")
    if fps is None and name == PACED.name:
        raise UsageError("--plan paced needs a rate of arrival.", remedy="Say --plan paced --fps 30.")
    if fps is None:
        return PLANS[name]
    if name != PACED.name or fps <= 0:
        raise UsageError(f"--fps {fps:g} does not go with --plan {name}.", remedy="Say --plan paced --fps 30.")
    return dataclasses.replace(PACED, target_fps=fps)


@dataclass(frozen=True)
class Parallel:
    """What is ranged over beside threads: every combination that the device's CPUs bear; empty: what the target says.

    Attributes:
        inter_op: Inter-op threads.
        sessions: Copies of the model under load at once.
        batch: Samples in one request.
    """

    inter_op: tuple[int, ...] = ()
    sessions: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()


ALONE = Parallel()


def bench(
    request: Request,
    plan: Plan,
    workspace: Workspace,
    *,
    parallel: Parallel = ALONE,
    listener: Listener | None = None,
) -> tuple[Measurement, ...]:
    """Measure `request.model` on the target with each thread count, inter-op threads, sessions and batch.

    Raises:
        EdgeoptError: The model, the samples or the device cannot be used, or a number is above what it bears.
    """
    said = listener or Silence()
    if plan.target_fps and max(parallel.sessions, default=1) > 1:
        raise UsageError(
            f"--sessions {max(parallel.sessions)} does not go with --plan paced, whose frames come one by one.",
            remedy="Say --plan standard.",
        )
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    with connect(aim.device) as connection:
        facts = connection.probe()
        profile = profile_for(aim, facts, request.target, said)
        prepared = prepare(request, workspace, said)
        offered = of_runtimes(registry.target(profile.target).settings(profile, facts), request.runtimes)
        settings = thread_settings(offered, request.threads, facts)
        settings = parallel_settings(settings, parallel, facts)
        with connection.lease(f"bench of {prepared.model.name}"):
            one = Bench(
                workspace,
                connection,
                facts,
                profile,
                prepared,
                request.budget,
                run_id=f"bench-{secrets.token_hex(4)}",  # a name that was used is answered with what was measured then
                fresh=True,
                listener=said,
            )
            maker = maker_for(request, prepared, facts, workspace, training=False, listener=said)
            original = readable_original(maker, profile)
            settings = tuple(readers(one, settings, original))
            require_readers(settings, original, facts, connection.device)
            said.stage("Measuring", len(settings))
            return tuple(_measure(one, original, chosen, plan) for chosen in settings)


def require_readers(settings: Sequence[Settings], original: Variant, facts: DeviceFacts, device: Device) -> None:
    """Refuse a network that no runtime of the device can run as it is.

    Args:
        settings: Those that suit the original.
        original: The network.
        facts: What the device has.
        device: For the message.

    Raises:
        RunnerError: There are none; says which runtimes would read the file.
    """
    if settings:
        return
    form, has = original.artifact.format, ", ".join(one.name for one in facts.runtimes) or "none"
    wanted = READERS.get(form, ())
    remedy = f"It needs one of {', '.join(wanted)}: edgeopt device provision {device.name} --runtime {wanted[0]}."
    if device.transport == "local":
        remedy = f"It needs one of {', '.join(wanted)}: pip install 'edgeopt[runtimes]'."
    raise RunnerError(
        f"no runtime that may be used on {device.name} runs this .{form} file (it has {has}).",
        remedy=remedy,
        status="runtime_missing",
    )


def _measure(one: Bench, original: Variant, settings: Settings, plan: Plan) -> Measurement:
    measurement = one.measure(original, settings, plan)
    one.listener.advance(f"{BASELINE.name} / {settings}")
    return measurement


def thread_settings(settings: Sequence[Settings], threads: Sequence[int], facts: DeviceFacts) -> tuple[Settings, ...]:
    """The target's settings, or the same with the thread counts that the user named.

    Raises:
        UsageError: More threads than the device has CPUs.
    """
    if not threads:
        return tuple(settings)
    if max(threads) > facts.cores_logical:
        raise UsageError(
            f"--threads {max(threads)} is more than the {facts.cores_logical} CPUs that the device lets us use.",
            remedy=f"Use at most {facts.cores_logical}.",
        )
    made = [dataclasses.replace(one, threads=count) for one in settings if one.sessions == 1 for count in threads]
    return tuple(dict.fromkeys(made))


def of_runtimes(settings: Sequence[Settings], runtimes: Sequence[str]) -> tuple[Settings, ...]:
    """Those of the runtimes that the user named; all where none is named.

    Raises:
        UsageError: A runtime that the device does not have, or that its profile does not use.
    """
    present = tuple(dict.fromkeys(one.runtime for one in settings))
    if absent := [name for name in runtimes if name not in present]:
        raise UsageError(
            f"--runtimes names {absent[0]!r}, which is not there: the device has {', '.join(present)}.",
            remedy="Install it there (edgeopt device provision), or name one that is there.",
        )
    return tuple(one for one in settings if not runtimes or one.runtime in runtimes)


def parallel_settings(settings: Sequence[Settings], parallel: Parallel, facts: DeviceFacts) -> tuple[Settings, ...]:
    """The settings with every inter-op count, number of sessions and batch, where all threads have CPUs.

    Raises:
        UsageError: One number alone is more than the device has CPUs, or no combination fits them.
    """
    if parallel == ALONE:
        return tuple(settings)
    cpus = facts.cores_logical
    for option, counts in (("--inter-op", parallel.inter_op), ("--sessions", parallel.sessions)):
        if max(counts, default=1) > cpus:
            raise UsageError(
                f"{option} {max(counts)} is more than the {cpus} CPUs that the device lets us use.",
                remedy=f"Use at most {cpus}.",
            )
    if max(parallel.batch, default=1) > LARGEST_BATCH:
        raise UsageError(
            f"--batch {max(parallel.batch)} is more than a request may hold.", remedy=f"Use at most {LARGEST_BATCH}."
        )
    made = [
        dataclasses.replace(one, inter_op=inter_op, sessions=sessions, batch=batch)
        for one in settings
        for inter_op in (parallel.inter_op if _has_inter_op(one.runtime) else ()) or (one.inter_op,)
        for sessions in parallel.sessions or (one.sessions,)
        for batch in parallel.batch or (one.batch,)
    ]
    fitting = tuple(one for one in dict.fromkeys(made) if one.busy_threads <= cpus)
    if not fitting:
        raise UsageError(
            f"{made[0]} are {made[0].busy_threads} threads at once, and the device lets us use {cpus} CPUs.",
            remedy="Use fewer threads or fewer sessions.",
        )
    return fitting


def _has_inter_op(runtime: str) -> bool:
    """Whether inter-op threads mean something to a runtime; of one that is not ours that is not known."""
    return runtime not in RUNTIMES or RUNTIMES[runtime].optimises
