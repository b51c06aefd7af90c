from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.model import Artifact
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Settings
from edgeopt.documents import plain
from edgeopt.errors import ProtocolError, RunnerError
from edgeopt.remote import jobs

ARTIFACT = Artifact(digest="a" * 64, size_bytes=10, format="onnx")
LATENCY = {
    "samples_ns": [10, 20, 30],
    "per_sample": 1,
    "windows_ns": [20],
    "median_ns": 20,
    "mean_ns": 20,
    "min_ns": 10,
    "max_ns": 30,
    "mad_ns": 10,
    "cv": 0.4,
    "outlier_share": 0.0,
}


def measure(**changes: Any) -> jobs.Job:
    values: dict[str, Any] = {
        "artifact": ARTIFACT,
        "settings": Settings(threads=2),
        "plan": QUICK,
        "golden": "b" * 64,
        "min_cosine": 0.99,
    }
    return jobs.measure_job(**{**values, **changes})


def result_of(job: jobs.Job, **changes: Any) -> jobs.Job:
    measurement = {
        "variant_digest": job["artifact"]["sha256"],
        "settings": job["settings"],
        "plan": job["plan"],
        "device_fingerprint": "f",
        "runtime_version": "1.20",
        "runner": "0.1.0",
        "status": "ok",
        "latency": LATENCY,
        "correctness": {"passed": True, "cosine": 1.0, "max_abs": 0.0},
    }
    head = {name: job[name] for name in ("job_id", "nonce", "kind")}
    return {**head, "status": "ok", "detail": "", "measurement": {**measurement, **changes}}


def test_names_are_random_unless_given() -> None:
    assert measure()["job_id"] != measure()["job_id"]
    first, second = measure(job_id="c" * 32), measure(job_id="c" * 32)
    assert first == second
    assert len(first["nonce"]) == 32


def test_a_job_names_only_settings_that_every_runner_knows_unless_more_are_asked() -> None:
    assert set(measure()["settings"]) == {"runtime", "threads", "graph_optimisation", "spinning"}
    asked = measure(settings=Settings(sessions=2, batch=8))["settings"]
    assert (asked["sessions"], asked["batch"]) == (2, 8)
    assert "inter_op" not in asked


@pytest.mark.parametrize("rate", [0.0, -3.0, float("inf"), float("nan")])
def test_a_throughput_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ProtocolError, match="items a second"):
        jobs.measurement_of(result_of(measure(), items_per_second=rate))


def test_the_nonce_is_bound_to_the_work() -> None:
    first = measure(job_id="c" * 32)
    assert first["nonce"] != measure(job_id="c" * 32, min_cosine=0.5)["nonce"]
    assert first["nonce"] != measure(job_id="c" * 32, settings=Settings(threads=3))["nonce"]
    assert first["nonce"] == measure(job_id="c" * 32, reason="another run")["nonce"]


def test_a_result_becomes_a_measurement() -> None:
    job = measure()
    result = jobs.check_result(result_of(job), job, "board")
    measurement = jobs.measurement_of(result)
    assert measurement.settings == Settings(threads=2)
    assert measurement.plan == QUICK
    assert measurement.latency is not None
    assert measurement.latency.samples_ns == (10, 20, 30)
    assert measurement.ok


@pytest.mark.parametrize("name", ["job_id", "nonce", "kind"])
def test_a_result_of_another_job_is_refused(name: str) -> None:
    job = measure()
    with pytest.raises(ProtocolError, match=f"board: result: {name} is"):
        jobs.check_result({**result_of(job), name: "0" * 32}, job, "board")


@pytest.mark.parametrize(
    "change",
    [{"variant_digest": "d" * 64}, {"settings": plain(Settings(threads=8))}, {"plan": {}}],
    ids=lambda change: next(iter(change)),
)
def test_a_measurement_of_something_else_is_refused(change: dict[str, Any]) -> None:
    job = measure()
    with pytest.raises(ProtocolError, match="not what was ordered"):
        jobs.check_result(result_of(job, **change), job, "board")


@pytest.mark.parametrize(
    "change",
    [
        {"latency": {**LATENCY, "samples_ns": []}},
        {"latency": {**LATENCY, "samples_ns": [-1, 20, 30]}},
        {"latency": {**LATENCY, "p90_ns": 29, "p95_ns": 28}},
        {"latency": {**LATENCY, "median_ns": 31}},
        {"latency": {**LATENCY, "per_sample": 0}},
        {"latency": {**LATENCY, "samples_ns": [0, 0, 0], "min_ns": 0, "median_ns": 0}},
        {"latency": {**LATENCY, "min_ns": 0, "median_ns": 0}},
        {"latency": "fast"},
        {"latency": None},
        {"correctness": None},
        {"correctness": {"passed": "perhaps", "cosine": 1, "max_abs": 0}},
    ],
    ids=str,
)
def test_figures_that_contradict_each_other_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        jobs.measurement_of(result_of(measure(), **change))


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        "there",
        {},
        {"sha256": "../../etc/passwd", "size": 1},
        {"sha256": "A" * 64, "size": 1},
        {"sha256": "a" * 64},
        {"sha256": "a" * 64, "size": -1},
        {"sha256": "a" * 64, "size": 1 << 50},
        {"sha256": "a" * 64, "size": True},
    ],
    ids=str,
)
def test_outputs_that_cannot_be_fetched_are_refused(outputs: Any) -> None:
    job = measure(metric="outputs")
    with pytest.raises(ProtocolError, match="board: result"):
        jobs.check_result({**result_of(job), "outputs": outputs}, job, "board")
    sound = {"sha256": "a" * 64, "size": 1 << 20}
    assert jobs.check_result({**result_of(job), "outputs": sound}, job, "board")["outputs"] == sound


def test_a_launch_that_failed_is_a_measurement_too() -> None:
    measurement = jobs.measurement_of(result_of(measure(), status="oom", latency=None, correctness=None))
    assert measurement.status == "oom"
    assert not measurement.ok


def layers_result(job: jobs.Job, **changes: Any) -> jobs.Job:
    """What a device says of a `layers` job; `changes` replace fields of the last row."""
    single = result_of({**measure(), "plan": job["plan"], "settings": job["settings"]})["measurement"]
    rows = [{**single, "variant_digest": layer["sha256"]} for layer in job["layers"]]
    rows[-1].update(changes)
    return {**{name: job[name] for name in ("job_id", "nonce", "kind")}, "status": "ok", "detail": "", "layers": rows}


def layers() -> jobs.Job:
    files = [jobs.LayerFile(Artifact(letter * 64, 10, "onnx"), "e" * 64) for letter in "cd"]
    return jobs.layers_job(files, settings=Settings(), plan=QUICK.without_evaluation(), min_cosine=0.9)


def test_each_layer_of_a_job_becomes_a_measurement_also_one_that_failed() -> None:
    job = layers()
    result = layers_result(job, status="load_failed", latency=None, correctness=None)
    first, second = jobs.layers_of(jobs.check_result(result, job, "board"))
    assert (first.variant_digest, first.ok) == ("c" * 64, True)
    assert (second.variant_digest, second.status) == ("d" * 64, "load_failed")


@pytest.mark.parametrize("change", [{"variant_digest": "c" * 64}, {"settings": {}}, {"plan": None}], ids=str)
def test_layers_that_were_not_ordered_are_refused(change: dict[str, Any]) -> None:
    job = layers()
    with pytest.raises(ProtocolError, match=r"board: result: .* not what was ordered"):
        jobs.check_result(layers_result(job, **change), job, "board")


@pytest.mark.parametrize("rows", [None, "all", [], [None, None], [{}]], ids=str)
def test_layers_that_are_no_list_of_all_that_was_ordered_are_refused(rows: Any) -> None:
    job = layers()
    with pytest.raises(ProtocolError, match="board: result"):
        jobs.check_result({**layers_result(job), "layers": rows}, job, "board")


def test_a_worker_that_crashed_has_no_layers_and_figures_that_cannot_be_are_refused() -> None:
    job = layers()
    crashed = {**layers_result(job), "status": "crash"}
    del crashed["layers"]
    assert jobs.check_result(crashed, job, "board")["status"] == "crash"
    with pytest.raises(ProtocolError, match="cannot be"):
        jobs.layers_of(layers_result(job, latency={**LATENCY, "median_ns": 31}))


def test_a_deployment_is_read_from_its_result() -> None:
    found = {"app": "digits", "release": 2, "previous": 1, "sha256": "a" * 64, "healthy": True, "detail": "fine"}
    deployment = jobs.deployment_of({"deployment": {**found, "settings": {"threads": 2}}}, "board")
    assert (deployment.app, deployment.release, deployment.previous) == ("digits", 2, 1)
    assert deployment.settings.threads == 2
    assert deployment.device == "board"
    for broken in ({}, {"deployment": None}, {"deployment": {**found, "release": "two"}}):
        with pytest.raises(ProtocolError, match="board: deployment"):
            jobs.deployment_of(broken, "board")


def test_only_what_ended_well_passes() -> None:
    jobs.require_ok({"status": "ok"}, "rolling back")
    with pytest.raises(RunnerError, match="rolling back ended with no_previous: there is one release only") as caught:
        jobs.require_ok({"status": "no_previous", "detail": "there is one \x1brelease\nonly"}, "rolling back")
    assert caught.value.status == "no_previous"


@dataclass(frozen=True)
class Wheel:
    path: Path
    digest: str


def test_the_key_of_an_environment_is_that_of_its_wheels() -> None:
    numpy, runtime = Wheel(Path("/wheels/numpy.whl"), "1" * 64), Wheel(Path("/wheels/onnxruntime.whl"), "2" * 64)
    first = jobs.provision_job((numpy, runtime), runtimes=("onnxruntime",))
    assert first["key"] == jobs.provision_job((numpy, runtime), runtimes=("onnxruntime",))["key"]
    assert first["key"] != jobs.provision_job((numpy,), runtimes=("onnxruntime",))["key"]
    assert first["key"] != jobs.provision_job((numpy, runtime))["key"]
    other = jobs.provision_job((numpy, runtime), runtimes=("onnxruntime",), system_site_packages=True)
    assert first["key"] != other["key"]
    assert first["wheels"] == [
        {"name": "numpy.whl", "sha256": "1" * 64},
        {"name": "onnxruntime.whl", "sha256": "2" * 64},
    ]
