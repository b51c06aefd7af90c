"""Leaves the winner active on the device, with a way back."""

from __future__ import annotations

from edgeopt.core.deployment import Deployment
from edgeopt.core.selection import Assessment
from edgeopt.remote import jobs
from edgeopt.workflow.measuring import Bench, least_cosine

_SLOWER_IS_SICK = 3.0
_BESIDES_NS = 100_000
"""What else a busy board does meanwhile, which is more than networks of microseconds take."""

_HEALTH_RUNS = 50


def activate(bench: Bench, winner: Assessment, app: str) -> Deployment:
    """Switch `app` to the winner, atomically and after a health check on the device.

    The check runs golden inputs and compares the latency with what was just measured; where it fails, the device has
    gone back to the previous release by itself.

    Raises:
        RunnerError: The health check failed, or the device could not switch.
    """
    candidate = winner.candidate
    bench.push(candidate.variant.artifact)
    bench.push(bench.prepared.golden)
    worst_ns = max((m.latency.worst_ns or 0 for m in candidate.measurements if m.latency), default=0)
    slowest_ns = max(worst_ns, winner.latency_ns.high) if winner.latency_ns else None
    limit_ns = round(slowest_ns * _SLOWER_IS_SICK) + _BESIDES_NS if slowest_ns else None
    job = jobs.activate_job(
        app=app,
        artifact=candidate.variant.artifact,
        settings=candidate.settings,
        golden=bench.prepared.golden.digest,
        min_cosine=least_cosine(candidate.variant),
        max_latency_ns=limit_ns,
        runs=_HEALTH_RUNS,
        reason=f"run {bench.run_id}",
    )
    result = bench.connection.run_job(job)
    jobs.require_ok(result, f"activating {app}")
    return jobs.deployment_of(result, bench.connection.device.name)
