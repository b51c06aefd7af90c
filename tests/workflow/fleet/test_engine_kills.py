"""``kill -9`` of the host at every point that the engine names: the same command goes on and asks the boards."""

from __future__ import annotations

import json
import os
import re
import signal
import traceback
from pathlib import Path

import pytest

import edgeopt.workflow.fleet
from edgeopt.core.fleet import Caps
from edgeopt.core.rollout import BoardProgress, GatePolicy, Rollout
from edgeopt.workflow.fleet import engine_faults
from support.rollouts import Watching, counts, database, planned, run
from support.simulated_boards import Behaviour, SimulatedFleet, SimulatedSource

KINDS = ("pi5", "orin")


def command(folder: Path, watcher: Watching | None = None) -> str:
    """What the user types: goes on with the rollout that is there, or begins one. Boards live in files of their own."""
    (folder / "boards").mkdir(exist_ok=True)
    source = SimulatedSource(folder / "release", KINDS)
    boards = SimulatedFleet.of(
        8, lambda n: {"profile": KINDS[n % 2], "behaviour": Behaviour(offline=int(n == 3))}, folder / "boards"
    )
    with database(folder) as store:
        if not store.rollouts():
            gate = GatePolicy(soak_seconds=0.05, max_unreachable=0.0)
            planned(store, boards.fleet, source.digest, ("2", "100%"), gate, Caps(concurrency=3))
        rollout_id = store.find_open("key")
        if rollout_id is not None:
            run(store, rollout_id, boards, source, watcher)
        driven = store.rollout(store.rollouts()[0].rollout_id)
    return f"{driven.state} {counts(driven)}"


def in_child(folder: Path, watcher: Watching | None = None, fault: str = "") -> int:
    """Give the command in a process of its own; returns how that ended, what it said is in the file ``said``."""
    pid = os.fork()
    if pid == 0:
        os.environ[engine_faults.VARIABLE] = fault
        try:
            (folder / "said").write_text(command(folder, watcher))
        except BaseException:
            (folder / "said").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def said(folder: Path) -> str:
    return (folder / "said").read_text()


def finish(folder: Path) -> None:
    """Give the same command again, and see that every board was changed once and all is well."""
    assert in_child(folder) == 0, said(folder)
    assert said(folder) == "done {'committed': 8}"
    states = [json.loads(path.read_text()) for path in sorted((folder / "boards").glob("*.json"))]
    assert [state["restarts"] for state in states] == [1] * 8
    assert {state["version"] for state in states} == {"1.0.0"}
    whole = sum(path.stat().st_size for path in (folder / "release").iterdir())
    assert sum(state["received"] for state in states) <= 8 * whole


@pytest.mark.parametrize("point", sorted(engine_faults.POINTS))
def test_the_same_command_goes_on(tmp_path: Path, point: str) -> None:
    assert in_child(tmp_path, fault=point) == -signal.SIGKILL, f"{point} is never passed"
    finish(tmp_path)


@pytest.mark.parametrize(
    "fault", ["boards.before:2", "boards.after:3", "board.ordered:4", "board.sent:5", "gate.after:1"]
)
def test_it_goes_on_after_a_second_kill(tmp_path: Path, fault: str) -> None:
    assert in_child(tmp_path, fault=fault) == -signal.SIGKILL
    in_child(tmp_path, fault="board.verified")
    finish(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("number", range(2, 12))
@pytest.mark.parametrize("point", sorted(engine_faults.POINTS))
def test_it_goes_on_from_every_later_passing_too(tmp_path: Path, point: str, number: int) -> None:
    in_child(tmp_path, fault=f"{point}:{number}")
    finish(tmp_path)


def test_every_point_has_a_name_and_every_name_a_point() -> None:
    texts = {path.name: path.read_text() for path in Path(edgeopt.workflow.fleet.__path__[0]).glob("*.py")}
    named = {name for text in texts.values() for name in re.findall(r'\bpoint\("([a-z.]+)"\)', text)}
    decides = texts["engine.py"].partition("def _moment")[2]
    moments = {word for line in decides.splitlines() if "return" in line for word in re.findall(r'"([a-z]+)"', line)}
    made = {f"{moment}.{when}" for moment in moments - {"planned"} for when in ("before", "after")}
    assert named | made == set(engine_faults.POINTS)
    with pytest.raises(KeyError, match="no fault point 'nowhere'"):
        engine_faults.point("nowhere")


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_rows_that_the_next_command_takes_up(tmp_path: Path, times: int) -> None:
    class Impatient(Watching):
        def moved(self, head: Rollout, boards: tuple[BoardProgress, ...]) -> None:
            for _ in range(0 if self.heads else times):
                os.kill(os.getpid(), signal.SIGINT)
            super().moved(head, boards)

    assert in_child(tmp_path, Impatient()) == 0, said(tmp_path)
    assert said(tmp_path).startswith("running")
    if times == 1:
        working = {"leased", "preflight", "sending", "staged", "activated", "healthy"}
        assert not working & set(re.findall(r"'(\w+)'", said(tmp_path)))
    finish(tmp_path)
