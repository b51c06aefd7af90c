from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.workflow.listener import Silence
from edgeopt.workflow.optimizing import optimize_into
from edgeopt.workflow.workspace import Workspace
from support.bad_input import DEVICES, write_broken_files
from support.command import Command
from support.device import pin
from support.sshd import Sshd, running_sshd
from support.workflow import NOISE, Computer, Task, make_computer, make_task, probe_of_this_machine, shorten_plans


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A network with samples that have no labels."""
    return make_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="session")
def experienced(tmp_path_factory: pytest.TempPathFactory, task: Task) -> Path:
    """An edgeopt home where the variants of `task` are made and the noise of this machine is known."""
    folder = tmp_path_factory.mktemp("experienced")
    with pytest.MonkeyPatch.context() as patch, Workspace.open(folder / "edgeopt") as workspace:
        make_computer(folder, patch)
        optimize_into(folder / "variants", task.request(), workspace, listener=Silence())
        workspace.ledger.remember_device_noise(probe_of_this_machine().fingerprint, NOISE)
    return folder / "edgeopt"


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experienced: Path) -> Computer:
    """A computer with the experience of another; plans are short."""
    shorten_plans(monkeypatch)
    return make_computer(tmp_path, monkeypatch, like=experienced)


@pytest.fixture
def workspace(computer: Computer) -> Iterator[Workspace]:
    with computer.workspace() as opened:
        yield opened


@pytest.fixture
def server(computer: Computer, tmp_path: Path) -> Iterator[Sshd]:
    """A board behind a real sshd whose host key is pinned."""
    with running_sshd(tmp_path / "board", environment={"EDGEOPT_LOCK": str(tmp_path / "board.lock")}) as running:
        pin(running)
        yield running


@pytest.fixture(scope="session")
def broken_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Broken files of every kind, and a sound network and samples."""
    return write_broken_files(tmp_path_factory.mktemp("bad-input"))


@pytest.fixture
def command(
    broken_files: Path, edgeopt_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line among broken files, with one device in the inventory."""
    monkeypatch.chdir(broken_files)
    monkeypatch.setenv("HOME", str(edgeopt_home))
    monkeypatch.setenv("COLUMNS", "80")
    (edgeopt_home / "devices.yaml").write_text(DEVICES)
    return Command(capsys)
