"""The agent dies anywhere, or its disk fails anywhere: what is active stays whole, and the next poll converges (I0)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeopt_runner import faults, jobs
from support.pull_tree import PullTree
from support.pulling import PullingBoard, model_and_golden

ELSEWHERE = ("pull.patch",)
"""Points that need files large enough for patches: `tests/runners/agent/test_ready_patches.py`."""

POINTS = [name for name in faults.POINTS if name.startswith("pull.") and name not in ELSEWHERE]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def tree(tmp_path: Path, networks: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, *model_and_golden(networks))
    made.offer("digits", "1.0")
    made.publish()
    return made


@pytest.fixture
def board(tmp_path: Path, tree: PullTree) -> PullingBoard:
    return PullingBoard(tmp_path / "board", tree, f"file://{tree.folder}")


def converge(board: PullingBoard, version: str) -> None:
    """Polls until the board has what is offered; at most three are needed: one may find the job of a dead agent."""
    for _ in range(3):
        if board.outcome() in ("committed", "nothing"):
            break
    board.assert_sound("digits", version)
    assert not list((board.root / "objects").glob("*.part"))


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point: str, board: PullingBoard) -> None:
    code, _ = board.poll(fault=f"{point}:kill9")
    assert code == -signal.SIGKILL
    wait_for_jobs(board)
    board.assert_sound("digits", "", "1.0")
    converge(board, "1.0")


@pytest.mark.parametrize("point", ["release.switched", "release.golden"])
def test_a_release_that_was_switched_to_and_not_committed_is_not_taken_for_done(
    point: str, board: PullingBoard
) -> None:
    board.poll(fault=f"{point}:kill9")
    wait_for_jobs(board)
    outcomes = [board.outcome() for _ in range(3)]
    assert "committed" in outcomes, outcomes
    board.assert_sound("digits", "1.0")


def test_what_a_killed_agent_began_is_collected_while_it_goes_on(board: PullingBoard) -> None:
    agent = board.start(fault="release.commit:sleep=2")
    until(lambda: board.release().get("state") == "switched")
    agent.kill()
    agent.communicate()
    assert board.outcome() == "committed"
    assert board.release()["version"] == "1.0"


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("failure", ["ENOSPC", "EIO"])
def test_the_disk_fails_at(point: str, failure: str, board: PullingBoard) -> None:
    code, said = board.poll(fault=f"{point}:raise={failure}")
    assert code == 4
    assert any(line.get("code", line.get("refused")) in ("disk_full", "error") for line in said), said
    wait_for_jobs(board)
    board.assert_sound("digits", "", "1.0")
    converge(board, "1.0")


def until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_jobs(board: PullingBoard) -> None:
    """Until no supervisor is at work: an update goes on when its agent dies."""
    live = ("queued", "running")
    for job in (board.root / "jobs").iterdir():
        until(lambda job=job: jobs.status(str(board.root), job.name)["state"] not in live)  # type: ignore[misc]


def killed_anywhere(board: PullingBoard, tree: PullTree, networks: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    board.poll()
    for number in range(times):
        version = f"2.{number}"
        tree.release("digits", version, number + 2, *model_and_golden(networks, float(number % 4)))
        tree.offer("digits", version, f"{number:016x}")
        tree.publish()
        process = board.start()
        time.sleep(chance.uniform(0.0, 3.0))
        process.kill()
        process.communicate()
        if chance.random() < 0.3:
            kill_all_of(board)
        before = "1.0" if number == 0 else f"2.{number - 1}"
        board.assert_serves("digits", before, version)
        wait_for_jobs(board)
        for _ in range(6):  # a supervisor that was killed too is another attempt, after a pause of a poll or two
            if board.outcome() in ("committed", "nothing"):
                break
        board.assert_sound("digits", version)


def kill_all_of(board: PullingBoard) -> None:
    """Kill every process that works on this board's root, as a power cut does."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    for line in found.splitlines():
        pid, _, command = line.strip().partition(" ")
        if f"--root {board.root} " in f"{command} " and "edgeopt_runner" in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def test_killed_at_random_times(board: PullingBoard, tree: PullTree, networks: Path) -> None:
    killed_anywhere(board, tree, networks, times=3, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_killed_at_many_random_times(board: PullingBoard, tree: PullTree, networks: Path) -> None:
    killed_anywhere(board, tree, networks, times=100, seed=2)
