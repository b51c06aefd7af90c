"""What the runner says a job gave, checked and as nouns (shapes: `edgeopt_runner.protocol`). No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgeopt.core.deployment import Deployment
from edgeopt.core.measurement import OK, Measurement
from edgeopt.core.pipeline import MODES, PipelineFigures
from edgeopt.documents import decode
from edgeopt.errors import DocumentError, ProtocolError, RunnerError
from edgeopt.remote.untrusted import check_digest, field, one_line

Result = dict[str, Any]

MOST_OUTPUTS_BYTES = 4 << 30
"""Longest file of outputs that is taken from a device."""


def check_result(result: Result, job: Mapping[str, Any], device: str) -> Result:
    """The result, if it is of this job.

    Raises:
        ProtocolError: It is of another job, or names another file or other settings than were ordered.
    """
    where = f"{device}: result"
    for name in ("job_id", "nonce", "kind"):
        if field(result, name, str, where) != job[name]:
            raise ProtocolError(f"{where}: {name} is {result[name][:40]!r}, not {job[name]!r}.")
    field(result, "status", str, where)
    if job["kind"] == "measure":
        _check_ordered(field(result, "measurement", dict, where), job["artifact"], job, where)
        _check_outputs(result, where)
    if job["kind"] == "layers" and result["status"] == OK:
        rows = field(result, "layers", list, where)
        if len(rows) != len(job["layers"]):
            raise ProtocolError(f"{where}: {len(rows)} measurements of {len(job['layers'])} layers.")
        for row, layer in zip(rows, job["layers"], strict=True):
            _check_ordered(row, layer, job, where)
    return result


def _check_ordered(measured: Any, file: Mapping[str, Any], job: Mapping[str, Any], where: str) -> None:
    """Let a measurement pass that names the file, the settings and the plan that were ordered."""
    wanted = {"variant_digest": file["sha256"], "settings": job["settings"], "plan": job["plan"]}
    for name, value in wanted.items():
        if not isinstance(measured, dict) or measured.get(name) != value:
            raise ProtocolError(f"{where}: {name} of the measurement is not what was ordered.")


def _check_outputs(result: Result, where: str) -> None:
    """Let outputs pass that have a digest and a size that this computer can bear."""
    if "outputs" in result:
        outputs = field(result, "outputs", dict, where)
        check_digest(field(outputs, "sha256", str, where), where)
        size_bytes = field(outputs, "size", int, where)
        if not 0 <= size_bytes <= MOST_OUTPUTS_BYTES:
            raise ProtocolError(f"{where}: outputs of {size_bytes} bytes; at most {MOST_OUTPUTS_BYTES} are taken.")


def require_ok(result: Mapping[str, Any], doing: str) -> None:
    """Let only a job that ended well pass.

    Raises:
        RunnerError: It did not; `status` says how it ended.
    """
    status = str(result.get("status"))
    if status != "ok":
        detail = one_line(str(result.get("detail") or "no detail"), 400)
        raise RunnerError(f"{doing} ended with {status}: {detail.rstrip('.')}.", status=status)


def measurement_of(result: Mapping[str, Any]) -> Measurement:
    """The measurement in a result, also of a launch that failed.

    Raises:
        ProtocolError: It does not have that shape, or its figures contradict each other.
    """
    return _measurement(result.get("measurement"))


def layers_of(result: Mapping[str, Any]) -> tuple[Measurement, ...]:
    """The measurement of each network of a ``layers`` job, in its order; those that failed say so in their status.

    Raises:
        ProtocolError: One does not have that shape, or its figures contradict each other.
    """
    return tuple(_measurement(row) for row in result["layers"])


def _measurement(document: object) -> Measurement:
    try:
        measurement: Measurement = decode(Measurement, document, where="measurement")
    except DocumentError as error:
        raise ProtocolError(error.message) from None
    latency = measurement.latency
    if latency is not None:
        percentiles = [value for value in (latency.p90_ns, latency.p95_ns, latency.p99_ns) if value is not None]
        ordered = [latency.min_ns, latency.median_ns, *percentiles, latency.max_ns]
        if (
            not latency.samples_ns
            or min(*latency.samples_ns, latency.min_ns, latency.per_sample) < 1
            or ordered != sorted(ordered)
        ):
            raise ProtocolError(f"measurement: latencies {ordered} of {len(latency.samples_ns)} samples cannot be.")
        average, worst = latency.average_ns, latency.worst_ns
        if (average, worst) != (None, None) and not 0 < (average or 0) <= (worst or 0):
            raise ProtocolError(f"measurement: an average of {average} ns, {worst} at worst, cannot be.")
    rate = measurement.items_per_second
    if rate is not None and not 0 < rate < math.inf:
        raise ProtocolError(f"measurement: {rate} items a second cannot be.")
    if (measurement.latency is None or measurement.correctness is None) and measurement.ok:
        raise ProtocolError("measurement: it ended well but has no latency or no check of the outputs.")
    return measurement


def pipeline_of(result: Mapping[str, Any]) -> PipelineFigures:
    """What a ``pipeline`` job found.

    Raises:
        ProtocolError: It does not have that shape, or has figures that cannot be.
    """
    try:
        figures: PipelineFigures = decode(PipelineFigures, result.get("pipeline"), where="pipeline")
    except DocumentError as error:
        raise ProtocolError(error.message) from None
    for mode in figures.modes:
        numbers = [*mode.latency_ns, *mode.alone_ns, *mode.items_per_second]
        if not mode.latency_ns or len(mode.latency_ns) != len(mode.items_per_second):
            raise ProtocolError(f"pipeline: {mode.name} has rounds without a latency or a throughput.")
        if not all(0 < number < math.inf for number in numbers):
            raise ProtocolError(f"pipeline: {mode.name} has figures that cannot be: {numbers[:8]}.")
    if [mode.name for mode in figures.modes] != list(MODES):
        raise ProtocolError(f"pipeline: it tells of {[mode.name for mode in figures.modes]}, not of {list(MODES)}.")
    return figures


def deployment_of(result: Mapping[str, Any], device: str) -> Deployment:
    """The deployment that an ``activate`` or ``rollback`` left active.

    Args:
        result: The result document.
        device: The device's name.

    Raises:
        ProtocolError: It does not have that shape.
    """
    where = f"{device}: deployment"
    document = field(result, "deployment", dict, where)
    values = {
        **{key: document.get(key) for key in ("app", "release", "previous", "healthy")},
        "device": device,
        "variant_digest": document.get("sha256"),
        "settings": document.get("settings") or {},
        "detail": document.get("detail") or "",
    }
    try:
        deployment: Deployment = decode(Deployment, values, where=where)
    except DocumentError as error:
        raise ProtocolError(error.message) from None
    return deployment
