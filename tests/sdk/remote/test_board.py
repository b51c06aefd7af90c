"""Releases on a real board: a real runner and engine, metadata really signed, over a link of this machine."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.device import Device
from edgeopt.core.release import BoardRelease, HealthFigures
from edgeopt.errors import ProtocolError, RunnerError
from edgeopt.remote import jobs
from edgeopt.remote.board import BoardClient, Order
from edgeopt.remote.client import Connection, connect
from edgeopt.signing.key_folder import KeyFolder
from edgeopt.signing.repository import Repository
from edgeopt.signing.setup import initialise
from support.board_updates import canonical, entry_of, manifest_of
from support.worker import conv_network, outputs_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two networks that compute alike, a third that does not, and golden samples."""
    import numpy as np

    from edgeopt_runner.protocol.samples import write_samples

    folder = tmp_path_factory.mktemp("models")
    first = conv_network(folder / "first.onnx")
    inputs = np.random.default_rng(1).normal(size=(4, 1, 3, 16, 16)).astype(np.float32)
    golden = folder / "golden.npz"
    write_samples(str(golden), {"input:x": inputs, "reference:logits": outputs_of(first, inputs)})
    second = folder / "second.onnx"
    second.write_bytes(first.read_bytes() + b"\x72\x00")  # an empty field of ONNX's: other bytes, the same network
    wrong = conv_network(folder / "wrong.onnx", bias=40.0)
    return {"first": first, "second": second, "wrong": wrong, "golden": golden}


@pytest.fixture
def repository(computer: Path, tmp_path: Path) -> Repository:
    """A signed tree with keys of its own."""
    tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    initialise(tree, passphrase=None, now=time.time())
    return tree


@pytest.fixture
def connection(computer: Path, tmp_path: Path) -> Iterator[Connection]:
    with connect(Device(name="local", transport="local", root=str(tmp_path / "root"))) as made:
        yield made


def release(models: dict[str, Path], name: str, version: str, counter: int, **changes: Any) -> dict[str, Any]:
    """A manifest for one of the models."""
    health = {"max_latency_ns": 2_000_000_000, "max_memory_bytes": 1 << 31, "runs": 20}
    entry = entry_of(b"", **{**health, **changes})
    for role, path in (("model", models[name]), ("golden", models["golden"])):
        data = path.read_bytes()
        entry[role] = {**entry[role], "digest": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    return manifest_of(b"", version, counter, entries={"board": {**entry, "machines": [platform.machine()]}})


def send(connection: Connection, models: dict[str, Path], manifest: dict[str, Any], folder: Path) -> Order:
    """Bring a release's files to the board; the order for it."""
    data = canonical(manifest)
    digest = hashlib.sha256(data).hexdigest()
    (folder / digest).write_bytes(data)
    connection.push(folder / digest, digest)
    for path in models.values():
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found.encode() in data:
            connection.push(path, found)
    target = f"releases/{manifest['app']}/{manifest['version']}.json"
    return Order(manifest["app"], digest, target, "board", fence=1)


def publish(repository: Repository, board: BoardClient, manifest: dict[str, Any]) -> None:
    """Sign a release and bring the metadata to the board."""
    repository.add_target(f"releases/{manifest['app']}/{manifest['version']}.json", canonical(manifest))
    repository.publish()
    state = board.bring_trust(repository.metadata_for_push(board.trust().versions()))
    assert state.targets == repository.current().targets.signed.version


def test_a_signed_release_goes_all_the_way_and_a_wrong_one_does_not_stay(
    connection: Connection, repository: Repository, models: dict[str, Path], tmp_path: Path
) -> None:
    board = BoardClient(connection)
    assert not board.trust().enrolled
    assert board.enrol(repository.root()).enrolled
    first = release(models, "first", "1.0.0", 1)
    order = send(connection, models, first, tmp_path)
    assert board.preflight(order).code == "bad_signature"
    publish(repository, board, first)
    found = board.preflight(order)
    assert (found.action, found.send_bytes, found.before.version) == ("update", 0, "")
    phases: list[str] = []
    outcome = board.update(order, rollout="r1", on_progress=lambda status: phases.append(status["phase"]))
    assert (outcome.outcome, outcome.version, outcome.before) == ("committed", "1.0.0", None)
    assert outcome.after is not None
    assert outcome.after.cosine == pytest.approx(1.0, abs=1e-4)
    assert outcome.after.memory_bytes > 1 << 20
    assert set(phases) <= {"queue", "start", *outcome.transitions}
    assert board.preflight(order).action == "nothing"

    second = release(models, "second", "1.1.0", 2)
    order = send(connection, models, second, tmp_path)
    publish(repository, board, second)
    assert [base.version for base in board.preflight(order).have] == ["1.0.0"]
    outcome = board.update(order, rollout="r1")
    assert outcome.outcome == "committed", outcome
    assert outcome.before is not None
    assert (outcome.before.runs, outcome.release) == (20, 2)

    bad = release(models, "wrong", "1.2.0", 3)
    order = send(connection, models, bad, tmp_path)
    publish(repository, board, bad)
    outcome = board.update(order, rollout="r1")
    assert (outcome.outcome, outcome.code, outcome.step) == ("aborted", "health_failed", "smoke")
    assert "cosine" in outcome.reason
    (now,) = board.releases(verify=True)
    assert (now.version, now.counter, now.previous, now.golden) == ("1.1.0", 2, "1.0.0", "1.0.0")
    assert (now.verified, now.signed, now.state, list(now.failed)) == (True, True, "idle", ["1.2.0"])

    again = board.recheck("digits", fence=1)
    assert (again.verdict, again.version) == ("healthy", "1.1.0")
    back = board.return_to_previous("digits", fence=1)
    assert (back.outcome, back.version) == ("committed", "1.0.0")


def test_limits_that_this_board_cannot_keep_are_named(
    connection: Connection, models: dict[str, Path], tmp_path: Path
) -> None:
    board = BoardClient(connection)
    manifest = release(models, "first", "1.0.0", 1, max_memory_bytes=1 << 20)
    order = send(connection, models, manifest, tmp_path)
    assert board.preflight(order).code == "not_enrolled"
    unsigned = Order(**{**order.document(), "insecure_unsigned": True})
    outcome = board.update(unsigned, rollout="r1")
    assert outcome.outcome in ("aborted", "inconclusive")
    assert "MiB of memory, more than the 1.0 MiB allowed" in outcome.reason
    assert board.releases()[0].state == "idle"


def test_an_enrolled_board_takes_no_unsigned_deployment_unless_told_to_which_marks_it(
    connection: Connection, repository: Repository, models: dict[str, Path], tmp_path: Path
) -> None:
    board = BoardClient(connection)
    board.enrol(repository.root())
    manifest = release(models, "first", "1.0.0", 1)
    send(connection, models, manifest, tmp_path)
    entry = manifest["entries"]["board"]
    artifact = {"sha256": entry["model"]["digest"], "size": entry["model"]["size_bytes"], "format": "onnx"}
    fields = {"app": "digits", "artifact": artifact, "settings": entry["settings"], "golden": entry["golden"]["digest"]}
    fields |= {"min_cosine": 0.99, "max_latency_ns": None, "runs": 5}
    refused = connection.run_job(jobs.plain_job("activate", "deploy", None, fields=fields))
    assert refused["status"] == "unsigned"
    assert "--insecure-unsigned" in refused["detail"]
    done = connection.run_job(jobs.plain_job("activate", "deploy", None, fields={**fields, "insecure_unsigned": True}))
    assert done["status"] == "ok"
    assert board.trust().insecure
    assert not board.releases()[0].signed


FIGURES = {"median_ns": 10, "p95_ns": 20, "memory_bytes": 30, "cosine": 0.9, "runs": 5, "disturbed": ""}


class Liar:
    """A connection to a board that answers what it likes."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.device = Device(name="liar", transport="local", root="/nowhere")

    def request(self, verb: str, **params: Any) -> dict[str, Any]:
        return self.answer

    def run_job(self, job: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        return {**job, "status": "ok", "detail": "", **self.answer}


def liar(**answer: Any) -> BoardClient:
    return BoardClient(Liar(answer))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        {"app": "../x"},
        {"app": "x", "version": "1.0\x1b[2J"},
        {"app": "x", "counter": -1},
        {"app": "x", "manifest": "zz"},
        {"app": "x", "counter": "many"},
        {"app": "x", "figures": {**FIGURES, "median_ns": 0}},
        {"app": "x", "figures": {**FIGURES, "p95_ns": 5}},
        {"app": "x", "figures": {**FIGURES, "cosine": 7.0}},
        {"app": "x", "figures": {**FIGURES, "runs": -5}},
        {"app": "x", "running": ["<script>"]},
        ["x"],
    ],
)
def test_what_a_board_says_of_its_releases_is_checked(row: Any) -> None:
    with pytest.raises(ProtocolError):
        liar(apps=[row]).releases()


def test_texts_of_a_board_are_cut_to_one_clean_line() -> None:
    row = {"app": "x", "failed": {"1.0": "a\nb\u202ec" + "d" * 9000}, "figures": FIGURES, "more": "of a newer runner"}
    (found,) = liar(apps=[row]).releases()
    assert found == BoardRelease("x", failed={"1.0": "a b" + "c" + "d" * 396}, figures=HealthFigures(**FIGURES))


def test_an_outcome_without_measurement_or_without_an_update_is_none() -> None:
    order = Order("x", "0" * 64, "releases/x/1.json", "p", 1)
    outcome = {"outcome": "committed", "code": "", "reason": "", "step": "collect", "before": None, "after": None}
    outcome |= {"version": "1", "release": 1, "transitions": []}
    with pytest.raises(ProtocolError, match="not measured"):
        liar(update=outcome).update(order, rollout="r")
    with pytest.raises(ProtocolError):
        liar(update={**outcome, "outcome": "great"}).update(order, rollout="r")
    with pytest.raises(RunnerError, match="rebooted") as caught:
        liar(status="rebooted", detail="the device rebooted in phase health").update(order, rollout="r")
    assert caught.value.status == "rebooted"


def test_a_board_that_says_it_has_more_than_a_file_is_not_believed() -> None:
    answer = {"action": "update", "code": "", "reason": "", "have": [], "free_bytes": 1, "need_bytes": 1}
    answer |= {"collect_bytes": 0, "before": {"app": "x"}, "needs": [{"sha256": "0" * 64, "size": 5, "have": 6}]}
    with pytest.raises(ProtocolError, match="6 of 5 bytes"):
        liar(**answer).preflight(Order("x", "0" * 64, "releases/x/1.json", "p", 1))
    json.dumps(answer)
