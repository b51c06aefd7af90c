"""Models that hang, breed processes or take memory once they are active: the update is undone, and nothing is left.

The board is real: its agent, supervisor, guard and workers are processes of the bundle. What the model does inside its
runtime is asked for by a fault that is armed after the switch, when applications would already use it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import jobs, offspring
from edgeopt_runner.agent import orders
from support.pull_tree import PROFILE, PullTree
from support.pulling import PullingBoard, model_and_golden
from support.runner import Runner, job

RUNNERS = Path(__file__).parents[2] / "runners"


def until(happened: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state_of(root: Path, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "jobs" / job_id / "state.json").read_text())
    return found


def mark_of(root: Path, job_id: str) -> str:
    """The mark of a job's worker; empty before there is one."""
    mark: str = state_of(root, job_id).get("worker", {}).get("mark", "")
    return mark


class Fleet:
    """One board that runs 1.0, and the tree that it pulls from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 1
        self.tree = PullTree(folder / "tree")
        self.manifest = self._publish("1.0")
        self.board = PullingBoard(folder / "board", self.tree, f"file://{self.tree.folder}")
        assert self.board.outcome() == "committed"

    def _publish(self, version: str) -> str:
        files = model_and_golden(self.folder / "networks", float(self.number % 3))
        manifest = self.tree.release("digits", version, self.number, *files)
        self.tree.offer("digits", version, f"{self.number:016x}")
        self.tree.publish()
        return manifest

    def bring_next(self) -> dict[str, Any]:
        """Publish another release and have its files on the board; the job that updates to it."""
        self.number += 1
        manifest = self._publish(f"{self.number}.0")
        code, _ = self.board.poll(fault="pull.submit:kill9")
        assert code == -signal.SIGKILL
        order = {"app": "digits", "manifest": manifest, "target": f"releases/digits/{self.number}.0.json"}
        return orders.update_job({**order, "profile": PROFILE, "fence": 0, "rollout": "r"}, "board-1", 1)

    def update(self, fault: str, **limits: Any) -> dict[str, Any]:
        """Update to the next release under a fault that is armed after the switch; the whole result."""
        document = {**self.bring_next(), "limits": limits}
        lock = Path(self.board.environment["EDGEOPT_LOCK"])
        with Runner(self.board.root, fault=f"release.health:arm={fault}", lock=lock) as runner:
            runner.result_of("submit", job=document)
            seen = self._marks(document["job_id"])
            result = runner.result_of("result", job_id=document["job_id"])
        assert seen
        assert not [pid for mark in seen for pid in offspring.bearing(mark)]
        return result

    def _marks(self, job_id: str) -> set[str]:
        """The marks of the job's workers, looked at until it has ended."""
        seen = set()
        while jobs.status(str(self.board.root), job_id)["state"] in ("queued", "running"):
            seen.add(mark_of(self.board.root, job_id))
            time.sleep(0.02)
        return seen - {""}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(tmp_path_factory.mktemp("fleet"))


@pytest.mark.parametrize(
    ("fault", "limits", "reason"),
    [
        ("engine.load:breed=5+engine.load:deaf=3600", {"deadline_seconds": {"load": 10}}, "timeout:load"),
        ("engine.load:breed=200+engine.load:deaf=3600", {}, "process_guard: the worker had"),
        (
            "engine.load:allocate=400+engine.load:deaf=3600",
            {"memory_bytes": 300 << 20},
            "memory_guard: the worker used",
        ),
    ],
    ids=["hang", "breed", "memory"],
)
def test_a_model_that_misbehaves_after_the_switch_is_left_for_the_one_before(
    fleet: Fleet, fault: str, limits: dict[str, Any], reason: str
) -> None:
    result = fleet.update(fault, **limits)
    assert result["update"]["outcome"] == "rolled_back"
    assert (result["status"], result["update"]["step"]) == ("health_failed", "health")
    assert reason in result["detail"]
    fleet.board.assert_sound("digits", "1.0")


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[tuple[Runner, str, dict[str, Any]]]:
    """A runner, a job whose worker has five children in sessions of their own and does not end, and its state."""
    document = job()
    with Runner(tmp_path / "root", fault="work.phase:breed=5@load,work.phase:deaf=3600@load") as runner:
        runner.result_of("submit", job=document)
        until(lambda: (mark := mark_of(runner.root, document["job_id"])) and len(offspring.bearing(mark)) == 6)
        state = state_of(runner.root, document["job_id"])
        yield runner, document["job_id"], state
    offspring.end(state["worker"]["mark"])


def test_cancelling_ends_what_left_the_workers_group(sleepers: tuple[Runner, str, dict[str, Any]]) -> None:
    runner, job_id, state = sleepers
    assert runner.result_of("cancel", job_id=job_id) == {"state": "done"}
    assert offspring.bearing(state["worker"]["mark"]) == []


def test_cancelling_ends_all_where_the_supervisor_hangs_too(sleepers: tuple[Runner, str, dict[str, Any]]) -> None:
    runner, job_id, state = sleepers
    os.kill(state["supervisor"]["pid"], signal.SIGSTOP)
    assert runner.result_of("cancel", job_id=job_id) == {"state": "done"}
    assert offspring.bearing(state["worker"]["mark"]) == []


def test_what_outlives_a_killed_supervisor_ends_with_the_next_job(
    sleepers: tuple[Runner, str, dict[str, Any]], tmp_path: Path
) -> None:
    _, _, state = sleepers
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: len(offspring.bearing(state["worker"]["mark"])) == 5)
    with Runner(tmp_path / "root") as runner:
        assert runner.finish(job())["status"] == "ok"
    assert offspring.bearing(state["worker"]["mark"]) == []


def test_a_worker_dumps_no_core_and_may_not_have_any_number_of_tasks(
    sleepers: tuple[Runner, str, dict[str, Any]],
) -> None:
    limits = Path(f"/proc/{sleepers[2]['worker']['pid']}/limits").read_text()
    values = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert values["Max core file size"] == ["0", "0"]
    assert 1024 < int(values["Max processes"][1]) < 1 << 20


RABBIT = """
import os, time
ends = time.monotonic() + 30
while time.monotonic() < ends:
    time.sleep(0.02)
    if os.fork():
        os._exit(0)
    os.setsid()
"""
"""Never the same process for long: each starts the next in another session, and ends. For half a minute at most."""


def test_processes_that_start_each_other_are_stopped_before_they_are_killed() -> None:
    mark = offspring.new_mark()
    for _ in range(5):
        subprocess.Popen([sys.executable, "-I", "-c", RABBIT], env=offspring.environment(mark)).wait()
    until(lambda: offspring.bearing(mark))
    assert offspring.end(mark) == []
    for _ in range(20):
        assert offspring.bearing(mark) == []
        time.sleep(0.01)


def test_what_somebody_guards_is_no_orphan() -> None:
    mark = offspring.new_mark()
    sleeper = subprocess.Popen(["sleep", "600"], env=offspring.environment(mark))
    offspring.end_orphans()
    assert offspring.bearing(mark) == [sleeper.pid]
    offspring.end(mark)
    assert sleeper.wait() == -signal.SIGKILL


def confined(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that may import the runner."""
    command = [sys.executable, "-c", "from edgeopt_runner import confinement\n" + code]
    environment = {**os.environ, "PYTHONPATH": str(RUNNERS)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_where_memory_is_limited_a_block_far_above_it_is_not_given() -> None:
    ended = confined("confinement.confine({'memory_bytes': 1 << 20})\nbytearray(1 << 40)")
    assert "MemoryError" in ended.stderr
    assert confined("confinement.confine({'memory_bytes': 1 << 20})\nbytearray(64 << 20)").returncode == 0


def test_a_soft_limit_that_is_lower_already_stays() -> None:
    given = "import resource as r\nr.setrlimit(r.RLIMIT_DATA, (1 << 31, r.RLIM_INFINITY))\n"
    ended = confined(given + "confinement.confine({'memory_bytes': 1 << 31})\nprint(r.getrlimit(r.RLIMIT_DATA)[0])")
    assert ended.stdout == f"{1 << 31}\n", ended.stderr


BOMB = """
import errno, os, signal
from edgeopt_runner import processes
confinement.MOST_NEW_TASKS = 8
os.getuid() or os.setuid(65534)
confinement.confine({})
started = []
try:
    while len(started) < 2000:
        started.append(os.fork())
        if started[-1] == 0:
            signal.pause()
except BlockingIOError:
    print("no more after", len(started))
finally:
    for pid in filter(None, started):
        os.kill(pid, signal.SIGKILL)
"""


def test_a_fork_bomb_of_a_plain_user_gets_no_more_processes_from_the_kernel() -> None:
    ended = confined(BOMB)
    assert "no more after" in ended.stdout, ended.stderr
