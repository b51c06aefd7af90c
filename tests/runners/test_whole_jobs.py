"""Jobs of every kind through the bundle: measured, activated, rolled back, collected, cleaned."""

import dataclasses
import json
from pathlib import Path

import pytest

from edgeopt import documents
from edgeopt.core.measurement import Measurement
from support.runner import Runner, job
from support.worker import SHORT, Board

SETTINGS = {"runtime": "onnxruntime", "threads": 1, "graph_optimisation": "all", "spinning": True}


def activation(board: Board, **fields: object) -> dict:
    artifact = {"sha256": board.model, "size": (board.root / "objects" / board.model).stat().st_size, "format": "onnx"}
    order = {"app": "digits", "artifact": artifact, "settings": SETTINGS, "golden": board.golden, "min_cosine": 0.99}
    return job("activate", **{**order, "max_latency_ns": None, "runs": 5, **fields})


def second_model(board: Board) -> dict:
    """The same network as another file: a document with one more field in its metadata."""
    import onnx

    model = onnx.load_from_string((board.root / "objects" / board.model).read_bytes())
    model.producer_name = "second"
    path = board.root.parent / "second.onnx"
    onnx.save(model, str(path))
    return {"sha256": board.add(path), "size": path.stat().st_size, "format": "onnx"}


def test_a_measurement_comes_back_whole(tmp_path: Path) -> None:
    board = Board(tmp_path)
    with Runner(board.root) as runner:
        assert runner.result_of("probe", runtimes=True)["fingerprint"]
        result = runner.finish(job("measure", **without_identity(board.job())))
    measured = documents.decode(Measurement, result["measurement"], where="result")
    assert (result["status"], measured.variant_digest) == ("ok", board.model)
    assert measured.latency is not None
    assert measured.latency.median_ns > 0
    assert measured.accuracy is not None
    assert measured.memory is not None
    assert measured.memory.available_drop_bytes is not None


def without_identity(document: dict) -> dict:
    return {key: value for key, value in document.items() if key not in ("job_id", "nonce", "kind")}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("engine.load:segfault", "crash"),
        ("engine.run:signal=SIGILL", "illegal_instruction"),
        ("engine.load:sleep=60", "timeout:load"),
    ],
)
def test_a_model_that_breaks_the_runtime_still_gets_a_measurement_that_says_so(
    tmp_path: Path, fault: str, status: str
) -> None:
    board = Board(tmp_path)
    limits = {"memory_bytes": None, "deadline_seconds": {"load": 3.0}}
    with Runner(board.root, fault=f"{fault}@{board.model[:12]}") as runner:
        result = runner.finish(job("measure", **without_identity(board.job(limits=limits))))
    measured = documents.decode(Measurement, result["measurement"], where="result")
    assert result["status"] == measured.status == status
    assert dataclasses.asdict(measured.plan) == dataclasses.asdict(SHORT)


def test_activation_rollback_and_cleaning(tmp_path: Path) -> None:
    board = Board(tmp_path)
    with Runner(board.root) as runner:
        first = runner.finish(activation(board))
        assert (first["status"], first["deployment"]["release"], first["deployment"]["healthy"]) == ("ok", 1, True)
        assert runner.finish(job("rollback", app="digits"))["status"] == "no_previous"
        other = second_model(board)
        assert runner.finish(activation(board, artifact=other))["deployment"]["previous"] == 1
        slow = runner.finish(activation(board, artifact=other, settings={**SETTINGS, "threads": 2}, max_latency_ns=1))
        assert slow["status"] == "health_failed"
        (app,) = runner.result_of("apps")["apps"]
        assert (app["app"], app["sha256"]) == ("digits", other["sha256"])
        back = runner.finish(job("rollback", app="digits"))
        assert (back["status"], back["deployment"]["sha256"]) == ("ok", board.model)
        assert runner.error_of("clean", force=False)["code"] == "busy"
        for path in (board.root / "jobs").glob("*/*.json"):
            path.unlink()
        runner.result_of("gc", keep=[])
        assert {board.model, other["sha256"], board.golden} <= {
            path.name for path in (board.root / "objects").iterdir()
        }
        assert runner.result_of("clean", force=True) == {"removed": True}


def test_a_supervisor_killed_in_the_middle_of_a_switch_leaves_a_board_that_recovers(tmp_path: Path) -> None:
    board = Board(tmp_path)
    with Runner(board.root) as runner:
        runner.finish(activation(board))
    other = second_model(board)
    with Runner(board.root, fault="release.switched:kill9@digits") as runner:
        order = activation(board, artifact=other)
        runner.result_of("submit", job=order)
        runner.wait_for(order["job_id"], "lost")
    with Runner(board.root) as runner:
        assert runner.result_of("apps")["apps"][0]["app"] == "digits"
        assert runner.finish(activation(board, artifact=other))["status"] == "ok"
        assert json.dumps(runner.result_of("apps")).count(other["sha256"]) == 1
