"""Measures one model as it is on a device, nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgeopt.core.device import DeviceFacts
from edgeopt.core.measurement import Measurement
from edgeopt.core.plan import PACED, PLANS, Plan
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.errors import UsageError
from edgeopt.remote.client import connect
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.optimizing import baseline_variant
from edgeopt.workflow.preparing import prepare
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import profile_for, resolve_target
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import registry


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


def bench(
    request: Request, plan: Plan, workspace: Workspace, *, listener: Listener | None = None
) -> tuple[Measurement, ...]:
    """Measure `request.model` on the target with each thread count.

    Raises:
        EdgeoptError: The model, the samples or the device cannot be used.
    """
    said = listener or Silence()
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    with connect(aim.device) as connection:
        facts = connection.probe()
        profile = profile_for(aim, facts, request.target)
        prepared = prepare(request, workspace, said)
        settings = thread_settings(registry.target(profile.target).settings(profile, facts), request.threads, facts)
        with connection.lease(f"bench of {prepared.model.name}"):
            one = Bench(
                workspace,
                connection,
                facts,
                profile,
                prepared,
                request.budget,
                run_id="bench",
                fresh=True,
                listener=said,
            )
            said.stage("Measuring", len(settings))
            return tuple(_measure(one, chosen, plan) for chosen in settings)


def _measure(one: Bench, settings: Settings, plan: Plan) -> Measurement:
    measurement = one.measure(baseline_variant(one.prepared), settings, plan)
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
    return tuple(dataclasses.replace(settings[0], threads=count) for count in threads)
