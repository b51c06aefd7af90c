"""Job kind ``layers`` on a real runtime: a row for each network, one that fails alone, a crash, orders refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import documents
from edgeopt.core.measurement import Measurement
from edgeopt_runner.protocol.samples import write_samples
from support.runner import Runner, job
from support.worker import SHORT, Board, conv_network, outputs_of

PLAN = replace(SHORT, evaluate=False, min_seconds=0.05)
SETTINGS = {"runtime": "onnxruntime", "threads": 1}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def network(board: Board, channels: int, **about: Any) -> dict[str, Any]:
    """An entry of a job: a network of its own with its samples, both among the board's objects."""
    folder = board.root.parent
    path = conv_network(folder / f"{channels}.onnx", channels=channels, **about)
    inputs = np.random.default_rng(channels).normal(size=(1, 1, 3, 16, 16)).astype(np.float32)
    write_samples(str(folder / "one.npz"), {"input:x": inputs, "reference:logits": outputs_of(path, inputs)})
    return {
        "sha256": board.add(path),
        "size": path.stat().st_size,
        "format": "onnx",
        "golden": board.add(folder / "one.npz"),
    }


def order(*layers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    values = {"layers": list(layers), "settings": SETTINGS, "plan": asdict(PLAN), "min_cosine": 0.95}
    return job("layers", **{**values, "max_start_celsius": None, **fields})


def rows_of(result: dict[str, Any]) -> list[Measurement]:
    return [documents.decode(Measurement, row, where="row") for row in result["layers"]]


def test_every_network_gets_a_whole_measurement_in_the_order_of_the_job(board: Board) -> None:
    layers = [network(board, channels) for channels in (4, 64, 8)]
    with Runner(board.root) as runner:
        result = runner.finish(order(*layers))
        runtime = runner.result_of("probe", runtimes=True)
    assert result["status"] == "ok", result["detail"]
    rows = rows_of(result)
    assert [row.variant_digest for row in rows] == [layer["sha256"] for layer in layers]
    for row in rows:
        assert row.ok, row.detail
        assert (row.plan, row.device_fingerprint) == (PLAN, runtime["fingerprint"])
        assert row.latency is not None
        assert len(row.latency.samples_ns) >= PLAN.min_samples
        assert row.correctness is not None
        assert row.correctness.cosine > 0.999
        assert {"idle_share", "others_share", "watched", "difference", "cool_down"} <= set(row.evidence)
    assert rows[1].latency.median_ns > rows[0].latency.median_ns  # sixteen times the work


def test_the_runtime_is_imported_once_and_each_network_is_loaded_and_left(board: Board) -> None:
    layers = [network(board, channels) for channels in (4, 8)]
    events = board.work(order(*layers), entry="layers")["events"]
    each = ["import", "load", "first", "golden", "warmup", "measure"]
    assert [event["phase"] for event in events] == ["preflight", "import", *each, *each]


def broken(board: Board) -> dict[str, Any]:
    """One that no runtime loads."""
    path = board.root.parent / "broken.onnx"
    path.write_bytes(b"no network")
    return {**network(board, 4), "sha256": board.add(path), "size": path.stat().st_size}


def test_one_that_does_not_load_and_one_that_is_wrong_are_rows_with_their_reason(board: Board) -> None:
    layers = [broken(board), network(board, 4, bias=float("nan")), network(board, 8)]
    wrong = {**network(board, 16), "golden": network(board, 32)["golden"]}
    with Runner(board.root) as runner:
        result = runner.finish(order(*layers, wrong))
    assert result["status"] == "ok"
    unloadable, nan, sound, other = rows_of(result)
    assert unloadable.status == "load_failed"
    assert "rotobuf" in unloadable.detail
    assert nan.correctness is not None
    assert "not finite" in nan.correctness.reason
    assert nan.latency is None  # the time of a wrong network is of no use
    assert other.correctness is not None
    assert "cosine" in other.correctness.reason
    assert sound.ok


def test_a_network_that_takes_the_worker_down_takes_only_this_job(board: Board) -> None:
    layers = [network(board, channels) for channels in (4, 8)]
    with Runner(board.root, fault=f"engine.load:segfault@{layers[1]['sha256'][:12]}") as runner:
        result = runner.finish(order(*layers))
        assert result["status"] == "crash"
        assert "layers" not in result
        assert runner.finish(order(layers[0]))["status"] == "ok"


def test_a_runtime_that_is_not_there_ends_the_job(board: Board) -> None:
    with Runner(board.root) as runner:
        result = runner.finish(order(network(board, 4), settings={"runtime": "tensorrt", "threads": 1}))
    assert result["status"] == "runtime_missing"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layers": "all"}, "layers are 'all'"),
        ({"layers": []}, "0 layers"),
        ({"layers": [{"sha256": "a" * 64}]}, "layers are"),
        ({"layers": [{"golden": "a" * 64}]}, "without sha256"),
        ({"layers": [{"golden": "a" * 64, "sha256": "a" * 64}] * 300}, "300 layers"),
        ({"plan": asdict(SHORT)}, "plan is"),
        ({"settings": {"threads": 0}}, "threads is 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_orders_that_cannot_be_done_are_refused(board: Board, fields: dict[str, Any], said: str) -> None:
    with Runner(board.root) as runner:
        error = runner.error_of("submit", job=order(network(board, 4), **fields))
    assert error["code"] == "bad_request"
    assert said in error["message"]


@pytest.mark.parametrize("name", ["sha256", "golden"])
def test_what_is_not_on_the_device_is_asked_for(board: Board, name: str) -> None:
    with Runner(board.root) as runner:
        error = runner.error_of("submit", job=order({**network(board, 4), name: "c" * 64}))
    assert error["code"] == "missing_object"
    assert "c" * 64 in error["message"]
