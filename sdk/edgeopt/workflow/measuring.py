"""Measures variants on one device through the ledger: what is known on an exact key is not measured again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.core.budget import Budget
from edgeopt.core.device import DeviceFacts
from edgeopt.core.formats import ONNX
from edgeopt.core.measurement import Measurement
from edgeopt.core.model import Artifact
from edgeopt.core.plan import Plan
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.variant import Variant
from edgeopt.core.work import Machine, Observation, Task
from edgeopt.errors import RunnerError
from edgeopt.graph.branching import varies_by_input
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection
from edgeopt.store.keys import Conditions, measurement_key
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.preparing import Prepared
from edgeopt.workflow.user_metric import accuracy_from_outputs
from edgeopt.workflow.workspace import Workspace

TRANSIENT = frozenset({"lost", "rebooted", "cancelled"})
"""Statuses that say nothing of what was measured: the board lost the job."""

_FINAL = frozenset({"ok", "load_failed", "illegal_instruction"})
"""What would come out again; a crash or a full memory may have had another cause, so it is tried anew next time."""

ATTEMPTS = 3
_COSINE_MARGIN = 0.05
_MOST_COSINE = 0.999


@dataclass(frozen=True)
class Bench:
    """One device, connected and leased, with the samples of a run.

    Attributes:
        workspace, connection, facts, profile: Where measurements come from and go to.
        prepared: Model and samples.
        budget: Its memory limit becomes the worker's guard.
        run_id: Makes job names, so that a restarted host finds the job that it started.
        fresh: Measure again what the ledger knows.
        listener: Hears of progress.
        reused: Keys that the ledger answered, for the user to know.
        first_launch: Number of this board's first launch in finals: boards of one kind may be the same to the ledger.
        first_attempt: Number of the first attempt at a launch; a trial that is begun again collects none before it.
    """

    workspace: Workspace
    connection: Connection
    facts: DeviceFacts
    profile: Profile
    prepared: Prepared
    budget: Budget
    run_id: str
    fresh: bool
    listener: Listener
    reused: set[str] = dataclasses.field(default_factory=set)
    first_launch: int = 0
    first_attempt: int = 0

    def measure(self, variant: Variant, settings: Settings, plan: Plan, launch: int = 0) -> Measurement:
        """One launch, from the ledger or from the device.

        Raises:
            DeviceError: The device cannot be reached or does not answer in the protocol.
        """
        conditions = self.conditions(variant, settings, plan)
        key = measurement_key(conditions)
        known = self.known(key, launch)
        if known is not None:
            return known
        measurement = self._measure_now(variant, conditions, f"{key}/{launch}")
        self.remember(key, launch, measurement)
        self._observe(key, variant, measurement)
        return measurement

    def _observe(self, key: str, variant: Variant, measurement: Measurement) -> None:
        """Keep for predictors what a launch took that nothing spoiled or slowed on purpose."""
        if variant.work is None or measurement.latency is None or not measurement.valid or measurement.plan.target_fps:
            return
        task = Task(variant.work, measurement.settings, machine_of(self.facts, self.profile))
        taken_ns = float(measurement.latency.average_ns or measurement.latency.median_ns)
        seen = Observation(variant.provenance.model_digest, variant.artifact.digest, task, taken_ns)
        self.workspace.ledger.remember_observation(key, seen)

    def known(self, key: str, launch: int) -> Measurement | None:
        """What the ledger knows of a launch; ``None`` where it is to be measured."""
        known = None if self.fresh else self.workspace.ledger.measurements(key).get(launch)
        if known is None or known.spoiled:  # earlier versions kept those
            return None
        self.reused.add(f"{key}/{launch}")
        return known

    def remember(self, key: str, launch: int, measurement: Measurement) -> None:
        """Keep a launch in the ledger, if it would come out again."""
        final = measurement.status in _FINAL or measurement.status.startswith("timeout:")
        if final and not measurement.spoiled:
            self.workspace.ledger.remember_measurement(key, launch, measurement)

    def _measure_now(self, variant: Variant, conditions: Conditions, name: str) -> Measurement:
        """Run the job; again, at most three times in all, where the board spoiled it or lost it."""
        measurement = None
        for attempt in range(self.first_attempt, self.first_attempt + ATTEMPTS):
            measurement = self._launch(variant, conditions, f"{self.run_id}/{name}/{attempt}")
            if not in_vain(measurement):
                break
        assert measurement is not None
        return measurement

    def _launch(self, variant: Variant, conditions: Conditions, name: str) -> Measurement:
        prepared = self.prepared
        self.push(variant.artifact)
        self.push(prepared.golden)
        artifact = variant.artifact
        by_input = artifact.format == ONNX and varies_by_input(self.workspace.artifacts.path(artifact))
        if conditions.plan.evaluate or by_input:
            self.push(prepared.evaluation)
        job = jobs.measure_job(
            artifact=artifact,
            settings=conditions.settings,
            plan=conditions.plan,
            golden=prepared.golden.digest,
            min_cosine=conditions.min_cosine,
            evaluation=prepared.evaluation.digest if conditions.plan.evaluate or by_input else None,
            metric=prepared.device_metric,
            memory_bytes=self.budget.max_memory_bytes,
            max_start_celsius=self.profile.max_start_celsius,
            by_input=by_input,
            deadline_seconds=deadlines(conditions.plan),
            reason=f"run {self.run_id}",
            job_id=hashlib.sha256(name.encode()).hexdigest()[:32],
        )
        result = self.connection.run_job(job)
        return self._with_user_metric(jobs.measurement_of(result), result)

    def _with_user_metric(self, measurement: Measurement, result: Mapping[str, Any]) -> Measurement:
        """A user's metric is computed here, from the outputs that the device sent."""
        outputs = result.get("outputs")
        if outputs is None or not measurement.ok:
            return measurement
        folder = self.workspace.cache_folder("outputs")
        path = folder / f"{outputs['sha256']}.npz"
        self.connection.fetch(outputs["sha256"], path, limit_bytes=int(outputs["size"]))
        evaluation = self.workspace.artifacts.path(self.prepared.evaluation)
        accuracy = accuracy_from_outputs(path, evaluation, self.prepared.summary.metric)
        path.unlink()
        return dataclasses.replace(measurement, accuracy=accuracy)

    def push(self, *artifacts: Artifact) -> None:
        """Send files, those that the device has not."""
        there = self.connection.have([artifact.digest for artifact in artifacts])
        for artifact in artifacts:
            if artifact.digest not in there:
                self.connection.push(self.workspace.artifacts.path(artifact), artifact.digest)

    def conditions(self, variant: Variant, settings: Settings, plan: Plan) -> Conditions:
        """Everything that a measurement of the variant depends on.

        Raises:
            RunnerError: The device does not have the runtime.
        """
        runtime = self.facts.runtime(settings.runtime)
        if runtime is None:
            raise RunnerError(
                f"{self.connection.device.name} has no {settings.runtime}.",
                remedy=f"Install it there: edgeopt device provision {self.connection.device.name}.",
                status="runtime_missing",
            )
        return Conditions(
            variant_digest=variant.artifact.digest,
            device_fingerprint=self.facts.fingerprint,
            runtime_version=runtime.version,
            runner=self.connection.runner_digest,
            settings=settings,
            plan=plan,
            golden_digest=self.prepared.golden.digest,
            min_cosine=least_cosine(variant),
            evaluation_digest=self.prepared.evaluation.digest,
            metric=self.prepared.device_metric,
        )


def in_vain(measurement: Measurement) -> str:
    """Why a launch says nothing of what was measured, while another one may; empty where it does."""
    if measurement.status in TRANSIENT:
        return f"the board lost the launch ({measurement.status})"
    return f"the board spoiled the launch ({', '.join(measurement.flags)})" if measurement.spoiled else ""


def machine_of(facts: DeviceFacts, profile: Profile) -> Machine:
    """What of a device decides how long things take there."""
    return Machine(
        facts.fingerprint,
        facts.machine,
        facts.isa,
        facts.cores_logical,
        facts.max_khz,
        profile.hardware.bandwidth_gb_per_second,
    )


def deadlines(plan: Plan) -> dict[str, float]:
    """Seconds that each phase of a launch may take; far above what a healthy board needs."""
    return {
        "preflight": plan.cooldown_seconds + 120,
        "import": 300,
        "load": 600,
        "first": 300,
        "golden": 300,
        "warmup": plan.max_warmup_seconds + 300,
        "measure": 3 * max(plan.max_seconds, plan.fixed_seconds) + 300,
        "evaluate": 3600,
    }


def least_cosine(variant: Variant) -> float:
    """What golden outputs must reach on the device: what the same file reached here, less a margin."""
    if variant.cosine is None:
        return _MOST_COSINE
    return round(min(_MOST_COSINE, max(0.0, variant.cosine - _COSINE_MARGIN)), 4)
