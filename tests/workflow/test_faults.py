"""What goes wrong in the middle of a run: nothing measured is lost, and the same command finishes the work."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.budget import Budget
from edgeopt.errors import AuthenticationError, ChangedHostKeyError, RemoteDiskError
from edgeopt.workflow import measuring
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.request import DataRequest
from edgeopt.workflow.workspace import Workspace
from support.chaos import ChaosProxy, chaos_proxy
from support.device import pin
from support.sshd import Sshd, make_key, running_sshd
from support.workflow import Computer, Heard, Task, eventually, known_measurements, known_variants, make_task

_SLOWED = "engine.run:sleep=0.004"
"""Long enough for a measurement to be caught in the act."""


def running(computer: Computer, kind: str = "measure", phase: str = "measure") -> dict[str, Any] | None:
    """The job that the device is at, where it is in this phase."""
    jobs = [job for job in computer.jobs(kind) if job["state"].get("state") == "running"]
    return next((job for job in jobs if phase in ("", job["state"]["phase"])), None)


# --- the host is killed ---------------------------------------------------------------------------------------------


def when_it_says(text: str) -> Callable[[Computer, subprocess.Popen[str]], None]:
    """Wait for a line of progress."""

    def wait(computer: Computer, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if text in line:
                return
        pytest.fail(f"it never said {text!r}: {''.join(said)}")

    return wait


def when_the_device(kind: str, phase: str) -> Callable[[Computer, subprocess.Popen[str]], None]:
    """Wait for the device to be at such a job."""

    def wait(computer: Computer, process: subprocess.Popen[str]) -> None:
        eventually(lambda: process.poll() is not None or running(computer, kind, phase))

    return wait


@dataclass(frozen=True)
class Moment:
    """When the host is killed, and what slows the device down so that it is caught there."""

    come: Callable[[Computer, subprocess.Popen[str]], None]
    fault: str = ""


MOMENTS = {
    "while variants are made": Moment(when_it_says("Making variants (")),
    "while the device measures": Moment(when_the_device("measure", "measure"), _SLOWED),
    "between two measurements": Moment(when_it_says("Measuring 2/")),
    "before the activation": Moment(when_it_says("Activating")),
    "while the device activates": Moment(when_the_device("activate", ""), "release.smoke:sleep=1"),
    "after the activation": Moment(when_it_says("Activating: net, release 1")),
}


RARE = ("between two measurements", "before the activation")
"""Moments between others that are tried each time."""


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=pytest.mark.long if name in RARE else ()) for name in MOMENTS]
)
def test_a_host_killed_in_the_middle_goes_on_with_the_same_command_and_repeats_nothing(
    computer: Computer, workspace: Workspace, task: Task, moment: str
) -> None:
    words = task.words(recipes="int8-minmax")
    process = computer.start(*words, EDGEOPT_FAULT=MOMENTS[moment].fault)
    MOMENTS[moment].come(computer, process)
    process.kill()
    process.communicate()
    at_work = running(computer, phase="")
    (cut_off,) = workspace.ledger.runs()
    known = known_measurements(workspace)

    done = computer.command(*words)

    assert done.returncode == 0, done.stderr
    if cut_off.state == "running":
        assert f"Going on with run {cut_off.run_id}, which was cut off." in done.stderr
        (finished,) = workspace.ledger.runs()
        assert finished.state == "done"
    after = known_measurements(workspace)
    assert {key: after[key] for key in known} == known
    if at_work is not None:
        (again,) = [job for job in computer.jobs() if job["job_id"] == at_work["job_id"]]
        assert again["state"]["supervisor"] == at_work["state"]["supervisor"]
    assert (computer.root / "apps/net/current").resolve().name == "1"
    assert sorted(path.name for path in (computer.root / "apps/net/releases").iterdir()) == ["1"]


# --- the device -----------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_costs_its_candidate_and_not_the_run(
    computer: Computer, workspace: Workspace, task: Task
) -> None:
    source = hashlib.sha256(task.network.read_bytes()).hexdigest()
    process = computer.start(*task.words("--json", recipes="int8-minmax"), EDGEOPT_FAULT=_SLOWED)

    def victim() -> dict[str, Any] | None:
        job = running(computer)
        return job if job is not None and job["artifact"]["sha256"] != source else None

    job = eventually(victim)
    os.kill(job["state"]["worker"]["pid"], signal.SIGKILL)
    process.communicate(timeout=240)
    assert process.returncode == 0
    (summary,) = workspace.ledger.runs()
    record = workspace.ledger.run(summary.run_id)
    assert record.selection is not None
    assert record.selection.winner is not None
    failed = [item for item in record.selection.assessments if item.verdict == "failed"]
    assert [item.candidate.variant.name for item in failed] == ["int8-minmax"]
    assert failed[0].candidate.measurements[0].status in ("crash", "oom")


def test_models_that_crash_or_hang_the_runtime_are_named_and_the_run_goes_on(
    computer: Computer, workspace: Workspace, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = known_variants(workspace)
    digest = {name: variant.artifact.digest for name, variant in variants.items()}
    faults = [f"engine.load:segfault@{digest['optimised']}", f"engine.run:sleep=600@{digest['int8-minmax']}"]
    monkeypatch.setenv("EDGEOPT_FAULT", ",".join(faults))
    monkeypatch.setattr(measuring, "deadlines", lambda plan: {"warmup": 4.0})
    record = deploy(task.request(), workspace)
    assert record.state == "done"
    assert record.selection is not None
    assert str(record.selection.winner).startswith("original")
    found = {item.candidate.variant.name: item for item in record.selection.assessments}
    assert found["optimised"].candidate.measurements[0].status == "crash"
    assert "crashed" in found["optimised"].reason
    assert found["int8-minmax"].candidate.measurements[0].status == "timeout:warmup"
    assert "ran past its deadline (warmup)" in found["int8-minmax"].reason


def test_a_full_disk_says_what_is_missing_and_loses_nothing(
    computer: Computer, workspace: Workspace, task: Task
) -> None:
    with small_disk(computer.root):
        heard = _FillsTheDisk(computer.root)
        with pytest.raises(RemoteDiskError) as caught:
            deploy(task.request(recipes=("int8-minmax",)), workspace, listener=heard)
        assert caught.value.exit_code == 4
        assert re.search(r"\d+ bytes free, and \d+ are needed", str(caught.value))
        known = known_measurements(workspace)
        assert known
        (failed,) = workspace.ledger.runs()
        assert failed.state == "failed"
        assert "int8-minmax" in {variant.name for variant in workspace.ledger.run(failed.run_id).variants}
        heard.filler.unlink()
        record = deploy(task.request(recipes=("int8-minmax",)), workspace)
        assert record.state == "done"
        assert {key: known_measurements(workspace)[key] for key in known} == known


class _FillsTheDisk(Heard):
    """Fills the device's disk when the first measurement is in."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.filler = root / "filler"

    def detail(self, text: str) -> None:
        pass

    def advance(self, text: str) -> None:
        super().advance(text)
        if self.lines[-1].startswith("Measuring") and not self.filler.exists():
            with contextlib.suppress(OSError), open(self.filler, "wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """48 MiB of memory as a disk at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root, where mounting is allowed")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# --- the link and the door ------------------------------------------------------------------------------------------


def add_board(workspace: Workspace, server: Sshd, **changes: Any) -> None:
    """Add the board behind `server`, whose interpreter has a runtime."""
    workspace.inventory.add(server.device("board", python=sys.executable, **changes))


def only_the_original(task: Task) -> Any:
    """A request without samples: what calibrates is left out, and nothing else was asked for."""
    data = DataRequest(evaluation_samples=16, calibration_samples=16)
    return task.request(data=data, recipes=("int8-minmax",), target="board", budget=Budget(max_drop=None))


def test_links_cut_in_a_push_and_in_a_measurement_cost_nothing_also_with_noise_at_login(
    computer: Computer, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(tmp_path / "large", width=20000)
    environment = {"EDGEOPT_LOCK": str(tmp_path / "board.lock"), "EDGEOPT_FAULT": _SLOWED}
    noise = "Welcome to board!\nLast login: never \x1e EDGEOPT1 12\n"
    with (
        running_sshd(tmp_path / "board", environment=environment, noise=noise) as server,
        chaos_proxy(server.port) as proxy,
    ):
        pin(server, proxy.port)
        add_board(workspace, server, port=proxy.port)
        proxy.cut_after = 2_000_000
        cutter = _CutsOnce(proxy, Computer(server.home, computer.edgeopt_home))
        cutter.start()
        record = deploy(only_the_original(task), workspace)
        cutter.join()
        root = server.home / ".edgeopt"
        active = hashlib.sha256((root / "apps/net/current/model.onnx").read_bytes()).hexdigest()
        asked = computer.jobs(root=root)
    assert proxy.cut_after is None
    assert cutter.done
    assert record.state == "done"
    assert active == hashlib.sha256(task.network.read_bytes()).hexdigest()
    assert {item.candidate.measurements[0].status for item in record.selection.assessments} == {"ok"}  # type: ignore[union-attr]
    assert cutter.job_id in {job["job_id"] for job in asked}


class _CutsOnce(threading.Thread):
    """Cuts every link when the device is in the middle of a measurement."""

    def __init__(self, proxy: ChaosProxy, board: Computer) -> None:
        super().__init__(daemon=True)
        self._proxy, self._board = proxy, board
        self.done, self.job_id = False, ""

    def run(self) -> None:
        job = eventually(lambda: running(self._board), seconds=120)
        self.job_id = job["job_id"]
        self._proxy.cut_all()
        self.done = True


def test_a_second_host_is_told_who_has_the_board(computer: Computer, task: Task, experienced: Path) -> None:
    words = task.words(recipes="int8-minmax")
    first = computer.start(*words, LOGNAME="anna", EDGEOPT_FAULT=_SLOWED)
    try:
        eventually(lambda: first.poll() is not None or running(computer))
        other = computer.home.parent / "other"
        shutil.copytree(experienced, other)
        second = computer.command(*words, LOGNAME="berta", EDGEOPT_HOME=str(other))
        assert second.returncode == 4
        assert "local is in use by anna@" in second.stderr
        assert "(run " in second.stderr
        assert "the lease ends" in second.stderr
    finally:
        first.kill()
        first.communicate()


def test_a_wrong_key_and_a_changed_host_key_stop_before_anything_runs(
    computer: Computer, workspace: Workspace, server: Sshd, task: Task, tmp_path: Path
) -> None:
    add_board(workspace, server)
    server.authorize(make_key(tmp_path / "somebody"))
    with pytest.raises(AuthenticationError) as refused:
        deploy(task.request(target="board"), workspace)
    assert refused.value.exit_code == 2
    server.authorize(server.client_key)
    server.replace_host_key()
    with pytest.raises(ChangedHostKeyError) as changed:
        deploy(task.request(target="board"), workspace)
    assert changed.value.exit_code == 2
    assert not (server.home / ".edgeopt").exists()
