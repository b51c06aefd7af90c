"""The whole life of a board behind a real sshd, whose own Python has no runtime, through the command line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.remote import hostkeys
from support.sshd import Sshd, running_sshd
from support.workflow import Computer, Task, make_computer, run_onnx

_BARE_PYTHON = "/usr/bin/python3"
_PROGRAM = """
import json, sys
import numpy as np
import edgeopt_runner
model = edgeopt_runner.load("net")
print(json.dumps(model({"x": np.ones((1, 32), np.float32)})["y"].tolist()))
"""


def _has_no_runtime(python: str) -> bool:
    command = [python, "-I", "-c", "import onnxruntime"]
    return Path(python).exists() and subprocess.run(command, capture_output=True, check=False).returncode == 1


pytestmark = pytest.mark.skipif(not _has_no_runtime(_BARE_PYTHON), reason=f"{_BARE_PYTHON} has a runtime or is missing")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, experienced: Path) -> Iterator[Computer]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_computer(tmp_path_factory.mktemp("laptop"), patch, like=experienced)


@pytest.fixture(scope="module")
def board(laptop: Computer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A board of its own home; nobody has pinned its key."""
    folder = tmp_path_factory.mktemp("board")
    with running_sshd(folder / "sshd", environment={"EDGEOPT_LOCK": str(folder / "board.lock")}) as running:
        yield running


@pytest.fixture
def edgeopt(laptop: Computer, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """The laptop, again in front of what every test sets by itself."""
    monkeypatch.setenv("EDGEOPT_HOME", str(laptop.edgeopt_home))
    return laptop


def test_01_a_board_is_added_with_the_fingerprint_that_its_owner_read_on_it(edgeopt: Computer, board: Sshd) -> None:
    address = f"{board.user}@{board.host}:{board.port}"
    words = ["device", "add", "board", address, "--key", str(board.client_key), "--python", _BARE_PYTHON]
    refused = edgeopt.command(*words, "--fingerprint", "SHA256:" + "A" * 43)
    assert refused.returncode == 2
    assert "shows the host key SHA256:" in refused.stderr
    unasked = edgeopt.command(*words)
    assert unasked.returncode == 2
    assert "was not confirmed" in unasked.stderr
    shown = hostkeys.scan(board.device())
    added = edgeopt.command(*words, "--fingerprint", shown)
    assert added.returncode == 0, added.stderr
    assert "Next: edgeopt device provision board, for it has no inference runtime yet" in " ".join(added.stdout.split())


def test_02_it_can_be_looked_at(edgeopt: Computer, board: Sshd) -> None:
    probed = edgeopt.command("device", "probe", "board", "--json")
    facts = json.loads(probed.stdout)["facts"]
    assert facts["machine"] == os.uname().machine
    assert facts["runtimes"] == []
    examined = edgeopt.command("device", "doctor", "board", "--json")
    checks = {check["name"]: check for check in json.loads(examined.stdout)["checks"]}
    assert examined.returncode == 4
    assert [name for name, check in checks.items() if not check["ok"] and name != "governor"] == ["runtimes"]
    assert "edgeopt device provision" in checks["runtimes"]["remedy"]


def test_03_a_deployment_is_refused_with_the_remedy(edgeopt: Computer, board: Sshd, task: Task) -> None:
    refused = edgeopt.command(*task.words("--target", "board"))
    assert refused.returncode == 4
    assert "board has none of the runtimes that profile" in refused.stderr
    assert "edgeopt device provision board" in refused.stderr


def test_04_it_is_given_a_runtime_from_here(edgeopt: Computer, board: Sshd) -> None:
    done = edgeopt.command("device", "provision", "board", "--json")
    assert done.returncode == 0, done.stderr
    environment = json.loads(done.stdout)
    assert [runtime["name"] for runtime in environment["runtimes"]] == ["onnxruntime"]
    assert str(board.home) in environment["interpreter"]
    again = edgeopt.command("device", "provision", "board", "--json")
    assert json.loads(again.stdout)["key"] == environment["key"]


def test_05_the_main_job_runs_there(edgeopt: Computer, board: Sshd, task: Task) -> None:
    done = edgeopt.command(*task.words("--target", "board", "--json"))
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["state"] == "done"
    assert record["deployment"]["release"] == 1
    active = board.home / ".edgeopt/apps/net/current/model.onnx"
    assert hashlib.sha256(active.read_bytes()).hexdigest() == record["deployment"]["variant_digest"]
    assert not (edgeopt.home / ".edgeopt").exists(), "something ran on the laptop instead of the board"


def test_06_a_program_on_the_board_uses_it(edgeopt: Computer, board: Sshd) -> None:
    import numpy as np

    root = board.home / ".edgeopt"
    done = subprocess.run(
        [str(root / "env/current/bin/python"), "-c", _PROGRAM],
        env={"HOME": str(board.home), "PYTHONPATH": str(root / "runner/current/edgeopt_runner.pyz")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = run_onnx(root / "apps/net/current/model.onnx", np.ones((1, 32), np.float32))
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-4, atol=1e-5)


def test_07_what_is_active_is_listed_and_there_is_nothing_to_go_back_to(edgeopt: Computer, board: Sshd) -> None:
    listed = edgeopt.command("device", "apps", "board", "--json")
    (app,) = json.loads(listed.stdout)["apps"]
    assert (app["app"], app["current"], app["previous"], app["healthy"]) == ("net", 1, None, True)
    refused = edgeopt.command("device", "rollback", "board", "net")
    assert refused.returncode == 4
    assert "net has no previous release to go back to" in refused.stderr


def test_08_cleaning_asks_for_force_while_an_application_is_active_and_then_leaves_nothing(
    edgeopt: Computer, board: Sshd
) -> None:
    refused = edgeopt.command("device", "clean", "board", "--yes")
    assert refused.returncode == 4
    assert "--force" in refused.stderr
    done = edgeopt.command("device", "clean", "board", "--yes", "--force")
    assert done.returncode == 0, done.stderr
    assert list(board.home.iterdir()) == []
