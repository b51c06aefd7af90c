"""`edgeopt split --devices`: stages on two real roots, one behind a real sshd, the host between them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeopt.core.device import LOCAL
from edgeopt.core.profile import Settings
from edgeopt.errors import DeviceError
from edgeopt.remote.client import Connection, connect
from edgeopt.remote.stage import Feeds
from edgeopt.workflow.relay import Passed, Relay
from edgeopt.workflow.request import Request
from edgeopt.workflow.splitting import split_model
from edgeopt.workflow.workspace import Workspace
from support.command import Command, Outcome
from support.device import fresh_computer, pin
from support.sshd import Sshd, running_sshd
from support.trained import trained
from support.workflow import eventually

WORDS = ("split", "m.onnx", "--measure", "--json")


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(trained("residual").network.read_bytes())
    return fresh_computer(tmp_path, monkeypatch)


@pytest.fixture
def board(computer: Path, tmp_path: Path) -> Iterator[Sshd]:
    """A board with its own root and lock, in the inventory as ``board``."""
    with running_sshd(tmp_path / "board", environment={"EDGEOPT_LOCK": str(tmp_path / "board.lock")}) as running:
        pin(running)
        with Workspace.open() as workspace:
            workspace.inventory.add(running.device(python=sys.executable))
        yield running


@pytest.fixture
def command(board: Sshd, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def stage_processes(folder: Path, *actions: str) -> list[int]:
    """Pids of the stages, and of their workers, whose root lies in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        wanted = set(actions or ("stage", "stage-work"))
        if wanted & set(words) and any(word.startswith(str(folder)) for word in words):
            found.append(int(entry.parent.name))
    return found


def test_stages_on_two_devices_are_measured_beside_the_whole_on_the_first(command: Command, tmp_path: Path) -> None:
    outcome = command(*WORDS, "--devices", "local,board", "--seconds", "0.3", "--rounds", "2")
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    found = document["pipeline"]
    assert [mode["name"] for mode in found["modes"]] == ["one session", "sequential", "pipeline"]
    assert [place["device"] for place in found["places"]] == ["local", "board"]
    assert found["max_abs"] < 1e-3
    assert "stages_share_a_device" not in found["flags"]
    edges = found["edges"]
    assert [(edge["source"], edge["sink"]) for edge in edges] == [
        ("host", "local (stage 1)"),
        ("local (stage 1)", "board (stage 2)"),
        ("board (stage 2)", "host"),
    ]
    assert edges[0]["size_bytes"] == 8 * 8 * 4
    assert edges[1]["size_bytes"] == document["cuts"][0]["size_bytes"]
    assert edges[2]["size_bytes"] == 10 * 4
    assert all(len(edge["relay_ns"]) == 2 and min(edge["relay_ns"]) > 0 for edge in edges)
    direct, relayed = found["direct"]["latency_ns"][0], found["modes"][0]["latency_ns"]
    assert direct < min(relayed), "the way there and back takes time"
    assert eventually(lambda: not stage_processes(tmp_path), seconds=10)


def test_the_same_device_twice_says_so_in_words(command: Command) -> None:
    words = ("split", "m.onnx", "--measure", "-q", "--seconds", "0.2", "--rounds", "1")
    said = command(*words, "--devices", "board,board").stdout
    for part in ("the whole on board", "one at a time", "without the way there", "board (stage 2)", "MB/s"):
        assert part in said
    assert "gains" in said or "loses" in said
    assert "stages_share_a_device" in said


REFUSED = [
    (["--devices", "local", "--measure"], "names no row of devices"),
    (["--devices", "local,,local", "--measure"], "names no row of devices"),
    (["--devices", "local,local"], "--devices without --measure"),
    (["--devices", "local,local", "--measure", "--parts", "3"], "--parts 3 does not go with the 2"),
    (["--devices", "local,local", "--measure", "--target", "board"], "--target and --devices"),
    (["--devices", "local,nobody", "--measure"], "nobody"),
    (["--devices", "local,local,local", "--measure", "--at", "x"], "cuts 2 stages, and --devices names 3"),
]


@pytest.mark.parametrize(("words", "part"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_devices_that_do_not_fit_are_refused(command: Command, tmp_path: Path, words: list[str], part: str) -> None:
    outcome = command("split", "m.onnx", *words)
    assert outcome.code == 2
    assert part in outcome.stderr
    assert not (tmp_path / "stages").exists()


def while_measuring(command: Command, folder: Path, break_it: threading.Thread) -> Outcome:
    """A run of a minute that something happens to."""
    break_it.start()
    outcome = command(*WORDS, "--devices", "local,board", "--seconds", "20", "--rounds", "1")
    break_it.join()
    assert eventually(lambda: not stage_processes(folder), seconds=15), "nothing is left on either device"
    return outcome


def test_a_stage_that_dies_ends_the_run_with_one_error(command: Command, board: Sshd, tmp_path: Path) -> None:
    def kill_the_stage() -> None:
        eventually(lambda: len(stage_processes(tmp_path, "stage-work")) == 3, seconds=200)  # two here, one there
        (worker,) = stage_processes(board.home, "stage-work")
        os.kill(worker, signal.SIGKILL)

    outcome = while_measuring(command, tmp_path, threading.Thread(target=kill_the_stage))
    assert outcome.code == 4
    assert outcome.error["message"].startswith("board: stage 2 of 2: ")
    assert "SIGKILL" in outcome.error["message"]


def test_a_link_that_dies_ends_the_run_with_one_error(command: Command, board: Sshd, tmp_path: Path) -> None:
    def cut_the_link() -> None:
        eventually(lambda: len(stage_processes(tmp_path, "stage-work")) == 3, seconds=200)
        pid = stage_processes(board.home, "stage")[0]
        while "sshd" not in (name := Path(f"/proc/{pid}/comm").read_text()):
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            assert pid > 1, name
        os.kill(pid, signal.SIGKILL)

    outcome = while_measuring(command, tmp_path, threading.Thread(target=cut_the_link))
    assert outcome.code == 4
    assert outcome.error["message"].startswith("board: stage 2 of 2: ")


def lent(connection: Connection, paths: list[Path]) -> Relay:
    """Stages of files, all on one device."""
    with Workspace.open() as workspace:
        artifacts = [workspace.artifacts.add(path, "onnx") for path in paths]
        for artifact in artifacts:
            connection.push(workspace.artifacts.path(artifact), artifact.digest)
    return Relay(
        [
            connection.stage(one.digest, Settings(), doing=f"stage {number} of {len(paths)}", idle_seconds=60)
            for number, one in enumerate(artifacts, 1)
        ]
    )


def images(count: int) -> list[Feeds]:
    return [{"image": np.random.default_rng(i).normal(size=(1, 1, 8, 8)).astype(np.float32)} for i in range(count)]


def test_results_come_in_the_order_of_the_requests_with_many_in_flight(computer: Path, tmp_path: Path) -> None:
    split = split_model(Request("m.onnx"), tmp_path / "stages", parts=4)
    found: list[Passed] = []
    most = [0]

    def requests() -> Iterator[Feeds]:
        for number, feeds in enumerate(images(60), 1):
            most[0] = max(most[0], number - len(found))
            yield feeds

    with connect(LOCAL) as connection:
        relay = lent(connection, [stage.path for stage in split.stages])
        whole = lent(connection, [tmp_path / "m.onnx"])
        relay.flow(requests(), found.append)
        wanted = [whole.run(feeds).values["logits"] for feeds in images(60)]
    assert 4 <= most[0] <= 5, "one for each stage, and the one that is about to go in"
    assert [passed.number for passed in found] == list(range(60))
    for passed, logits in zip(found, wanted, strict=True):
        np.testing.assert_allclose(passed.values["logits"], logits, rtol=1e-4, atol=1e-4)


def test_a_stage_that_does_not_load_or_fails_is_named(computer: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with connect(LOCAL) as connection:
        with pytest.raises(DeviceError, match=r"^local: stage 2 of 2: .*load_failed"):
            lent(connection, [tmp_path / "m.onnx", tmp_path / "broken.onnx"])
        relay = lent(connection, [tmp_path / "m.onnx"])
        bad = [*images(2), {"image": np.zeros((1, 3, 8, 8), np.float32)}, *images(2)]
        taken: list[Passed] = []
        with pytest.raises(DeviceError, match=r"^local: stage 1 of 1: "):
            relay.flow(bad, taken.append)
        assert [passed.number for passed in taken] == [0, 1]
