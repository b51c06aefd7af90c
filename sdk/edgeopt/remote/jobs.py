"""Job documents for the runner; what it answers is in `results` (shapes: `edgeopt_runner.protocol`). No I/O."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeopt.core.model import Artifact
from edgeopt.core.plan import Plan
from edgeopt.core.profile import Settings
from edgeopt.documents import plain
from edgeopt.remote.results import (
    MOST_OUTPUTS_BYTES,
    check_result,
    deployment_of,
    layers_of,
    measurement_of,
    pipeline_of,
    require_ok,
)

__all__ = [
    "MOST_OUTPUTS_BYTES",
    "Job",
    "LayerFile",
    "Owner",
    "StageFile",
    "WheelFile",
    "activate_job",
    "check_result",
    "deployment_of",
    "layers_job",
    "layers_of",
    "measure_job",
    "measurement_of",
    "pipeline_job",
    "pipeline_of",
    "plain_job",
    "provision_job",
    "reason_of",
    "require_ok",
    "rollback_job",
    "this_owner",
]

Job = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """Who has a board: two runs of one user on one computer are the same owner, so that a restarted one can go on.

    Attributes:
        owner: Login name.
        host: Computer.
    """

    owner: str
    host: str

    def document(self) -> dict[str, str]:
        """As requests carry it."""
        return {"owner": self.owner, "host": self.host}


def this_owner() -> Owner:
    """This user on this computer."""
    return Owner(getpass.getuser(), platform.node() or "unknown")


class WheelFile(Protocol):
    """What `provision_job` needs of a wheel."""

    @property
    def path(self) -> Path:
        """The file; its name is what the device calls it."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""


def measure_job(
    *,
    artifact: Artifact,
    settings: Settings,
    plan: Plan,
    golden: str,
    min_cosine: float,
    evaluation: str | None = None,
    metric: str = "fidelity",
    memory_bytes: int | None = None,
    max_start_celsius: float = 70.0,
    by_input: bool = False,
    deadline_seconds: Mapping[str, float] | None = None,
    reason: str = "measure",
    job_id: str | None = None,
) -> Job:
    """Measure a variant once under a plan.

    Args:
        artifact: The variant's file.
        settings: How to run it.
        plan: How to measure.
        golden: Digest of the golden samples.
        min_cosine: What the golden outputs must reach.
        evaluation: Digest of the evaluation samples, or ``None``.
        metric: ``top1``, ``fidelity`` or ``outputs``.
        memory_bytes: Limit of the worker's resident memory.
        max_start_celsius: Wait for this temperature first.
        by_input: Whether the time depends on the input: time many of them, for an average and the worst.
        deadline_seconds: Deadlines by phase; generous ones by default.
        reason: For those who wait for the board.
        job_id: 32 hexadecimal digits, the same for the same work; random by default.
    """
    return plain_job(
        "measure",
        reason,
        job_id,
        memory_bytes=memory_bytes,
        deadline_seconds=deadline_seconds,
        fields={
            "artifact": _file(artifact),
            "settings": settings.document(),
            "plan": plain(plan),
            "golden": golden,
            "min_cosine": min_cosine,
            "evaluation": evaluation,
            "metric": metric,
            "max_start_celsius": max_start_celsius,
            **({"by_input": True} if by_input else {}),
        },
    )


@dataclass(frozen=True)
class LayerFile:
    """A small network to measure among others.

    Attributes:
        artifact: Its file.
        golden: Digest of its golden samples.
    """

    artifact: Artifact
    golden: str


def layers_job(
    layers: Sequence[LayerFile],
    *,
    settings: Settings,
    plan: Plan,
    min_cosine: float,
    max_start_celsius: float = 70.0,
    deadline_seconds: Mapping[str, float] | None = None,
    reason: str = "layers",
) -> Job:
    """Measure many small networks in one worker.

    Args:
        layers: The networks; at least one.
        settings: How to run each.
        plan: How to measure each; one that does not evaluate.
        min_cosine: What the golden outputs of each must reach.
        max_start_celsius: Wait for this temperature first.
        deadline_seconds: Deadlines by phase, of each network anew.
        reason: For those who wait for the board.
    """
    return plain_job(
        "layers",
        reason,
        None,
        deadline_seconds=deadline_seconds,
        fields={
            "layers": [{**_file(layer.artifact), "golden": layer.golden} for layer in layers],
            "settings": settings.document(),
            "plan": plain(plan),
            "min_cosine": min_cosine,
            "max_start_celsius": max_start_celsius,
        },
    )


@dataclass(frozen=True)
class StageFile:
    """A stage of a pipeline: its file, and the names of all that is handed on after it."""

    artifact: Artifact
    gives: tuple[str, ...]


def pipeline_job(
    *,
    artifact: Artifact,
    stages: Sequence[StageFile],
    slot_bytes: Sequence[int],
    settings: Settings,
    golden: str,
    inputs: Sequence[str],
    min_cosine: float,
    seconds: float = 1.0,
    rounds: int = 3,
    max_start_celsius: float = 70.0,
) -> Job:
    """Run stages as a pipeline over processes, in turns with one session and with as many sessions as stages.

    Args:
        artifact: The whole model's file.
        stages: Front to back.
        slot_bytes: Most bytes of a message into the first stage, between stages, and out of the last.
        settings: How each session and each stage is run.
        golden: Digest of the golden samples, whose inputs are the requests.
        inputs: Names of the whole model's inputs.
        min_cosine: What the pipeline's outputs must reach.
        seconds: Of each round.
        rounds: Of each of the three.
        max_start_celsius: Wait for this temperature first.
    """
    return plain_job(
        "pipeline",
        "pipeline",
        None,
        deadline_seconds={"load": 600, "golden": 300, "measure": 6 * rounds * (seconds + 60)},
        fields={
            "artifact": _file(artifact),
            "stages": [{**_file(stage.artifact), "gives": list(stage.gives)} for stage in stages],
            "slot_bytes": list(slot_bytes),
            "settings": settings.document(),
            "golden": golden,
            "inputs": list(inputs),
            "min_cosine": min_cosine,
            "seconds": seconds,
            "rounds": rounds,
            "max_start_celsius": max_start_celsius,
        },
    )


def activate_job(
    *,
    app: str,
    artifact: Artifact,
    settings: Settings,
    golden: str,
    min_cosine: float,
    max_latency_ns: int | None = None,
    runs: int = 20,
    reason: str = "activate",
    job_id: str | None = None,
) -> Job:
    """Make a variant the active release of an application, if it is healthy there.

    Args:
        app: The application.
        artifact: The variant's file.
        settings: How to run it.
        golden: Digest of the golden samples.
        min_cosine: What the golden outputs must reach.
        max_latency_ns: Longest median latency that is healthy.
        runs: Inferences of the health check.
        reason: For those who wait for the board.
        job_id: As in `measure_job`.
    """
    return plain_job(
        "activate",
        reason,
        job_id,
        fields={
            "app": app,
            "artifact": _file(artifact),
            "settings": settings.document(),
            "golden": golden,
            "min_cosine": min_cosine,
            "max_latency_ns": max_latency_ns,
            "runs": runs,
        },
    )


def rollback_job(app: str, *, job_id: str | None = None) -> Job:
    """Make the previous release of an application active again."""
    return plain_job("rollback", f"rollback of {app}", job_id, fields={"app": app})


def rebuild_job(*, base: str | None, patch: str, result: str, size: int, job_id: str | None = None) -> Job:
    """Make a file on the device from one that it has and a patch that was pushed there (`edgeopt.deltas`).

    Args:
        base: Digest of the file that it has; ``None`` for a patch that needs none.
        patch: Digest of the patch, which is used up.
        result: Digest of the file to make.
        size: Its bytes.
        job_id: As in `measure_job`.
    """
    fields = {"base": base or None, "patch": patch, "result": result, "size": size}
    return plain_job("rebuild", "rebuild of a file", job_id, fields=fields)


def provision_job(
    wheels: Sequence[WheelFile],
    *,
    runtimes: Sequence[str] = (),
    system_site_packages: bool = False,
    job_id: str | None = None,
) -> Job:
    """Make an environment on the device from wheels that were pushed there.

    Args:
        wheels: The wheels.
        runtimes: Engines that it is made for; part of its key.
        system_site_packages: Whether it sees the device's own packages.
        job_id: As in `measure_job`.
    """
    entries = [{"name": wheel.path.name, "sha256": wheel.digest} for wheel in wheels]
    key = _digest({"wheels": entries, "runtimes": list(runtimes), "system": system_site_packages})[:16]
    fields = {"key": key, "wheels": entries, "system_site_packages": system_site_packages}
    return plain_job("provision", "provision", job_id, fields=fields)


def plain_job(
    kind: str,
    reason: str,
    job_id: str | None,
    *,
    fields: Job,
    memory_bytes: int | None = None,
    deadline_seconds: Mapping[str, float] | None = None,
) -> Job:
    """A job document, as the runner's `job_document` reads it; those of a kind of their own have their own function.

    Args:
        kind: ``update``, ``recheck``, ``rehearse``, ...
        reason: What for, in words, for whoever finds the board busy.
        job_id: 32 hex digits; ``None``: a new one. The same job under the same identifier is done once.
        fields: What belongs to this kind.
        memory_bytes: Most that its worker may have; ``None``: what the board allows.
        deadline_seconds: By phase.
    """
    limits = {"memory_bytes": memory_bytes, "deadline_seconds": dict(deadline_seconds or {})}
    identifier = job_id or secrets.token_hex(16)
    # bound to the content: a result that was made for other work under the same name is told apart
    nonce = _digest({"job_id": identifier, "kind": kind, "limits": limits, **fields})[:32]
    return {
        "job_id": identifier,
        "nonce": nonce,
        "kind": kind,
        "owner": {**this_owner().document(), "reason": reason},
        "limits": limits,
        **fields,
    }


def _file(artifact: Artifact) -> dict[str, Any]:
    return {"sha256": artifact.digest, "size": artifact.size_bytes, "format": artifact.format}


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def reason_of(job: Mapping[str, Any]) -> str:
    """Why a job is run, for those who wait for the board."""
    return str(job["owner"]["reason"])
