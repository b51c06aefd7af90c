"""Plans: what every board answers becomes its line, and one board's trouble stays its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.fleet import Board, Caps, Window
from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.release import HealthFigures, HealthLimits, Release, ReleaseEntry
from edgeopt.core.rollout import REFUSED, GatePolicy, Rollout
from edgeopt.report.fleet_page import render_rollout
from edgeopt.report.fleet_summary import went_well
from edgeopt.workflow.fleet import planning
from edgeopt.workflow.fleet.planning import Question, make_plan
from edgeopt.workflow.fleet.publishing import Published
from edgeopt.workflow.fleet.rolling import Prepared, exit_code
from edgeopt_runner.updates import order as fences
from support.rollout_records import done_rollout, halted_rollout
from support.simulated_boards import Behaviour, SimulatedFleet, SimulatedSource

TUESDAY_NOON = 1_790_078_400.0  # 2026-09-22 12:00 UTC


def entry() -> ReleaseEntry:
    file = Artifact("0" * 64, 2048, "onnx")
    measured = HealthFigures(8_000_000, 9_000_000, 60 << 20, 1.0, 50)
    return ReleaseEntry("int8", file, file, Settings(), (), "", HealthLimits(0.9), measured)


def published(source: SimulatedSource, *profiles: str) -> Published:
    release = Release("detector", source.version, 2, 1.0, 4e9, {name: entry() for name in profiles})
    return Published(release, source.digest, f"releases/detector/{source.version}.json", False, 4096)


def question(source: SimulatedSource, boards: tuple[Board, ...], **changes: Any) -> Question:
    fields: dict[str, Any] = {"waves": ("1", "100%"), "gate": GatePolicy(), "caps": Caps(), "now": TUESDAY_NOON}
    return Question(published(source, "pi5"), boards, **{**fields, **changes})


@pytest.fixture
def source(tmp_path: Path) -> SimulatedSource:
    return SimulatedSource(tmp_path / "source", ("pi5",))


def simulated(count: int, **shapes: Any) -> SimulatedFleet:
    return SimulatedFleet.of(count, lambda n: shapes.get(f"b{n}", {}))


def test_each_answer_becomes_a_line(source: SimulatedSource) -> None:
    fleet = simulated(4, b1={"profile": "x86-64-v3"}, b2={"behaviour": Behaviour(offline=-1)})
    fleet.boards["board-00003"].state["manifest"] = source.digest
    heard: list[str] = []
    plan = make_plan(
        question(source, fleet.fleet.boards), fleet.carrier(source), heard=lambda name, _: heard.append(name)
    )
    found = {board.board: board for board in plan.boards}
    assert found["board-00000"].action == "update"
    assert found["board-00000"].send_bytes > 0
    assert found["board-00000"].before == "0.9.0"
    assert (found["board-00000"].seconds or 0) > 16
    assert (found["board-00001"].action, found["board-00001"].wave) == ("skip", 0)
    assert (found["board-00002"].action, found["board-00002"].wave > 0) == ("unknown", True)
    assert (found["board-00003"].action, found["board-00003"].wave) == ("nothing", 0)
    assert sorted(heard) == [board.name for board in fleet.fleet.boards]
    assert plan.digest


def test_asking_leaves_no_fence_behind(source: SimulatedSource) -> None:
    fleet = simulated(3)
    fleet.boards["board-00001"].state["fence"] = 4_070_908_800  # of a host whose clock was in 2099
    plan = make_plan(question(source, fleet.fleet.boards), fleet.carrier(source))
    assert {board.action for board in plan.boards} == {"update"}
    assert fences.fence(planning._ASKING_FENCE) == planning._ASKING_FENCE, "a real board reads it"
    assert sorted(board.state["fence"] for board in fleet.boards.values()) == [0, 0, 4_070_908_800]
    assert fleet.total("restarts") == 0


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (Window(("tue",), 11 * 60, 13 * 60), ""),
        (Window((), 60, 270), "its window opens 2026-09-23 01:00 there"),
        (Window((), 60, 270, date="2026-09-01"), f"{REFUSED}the maintenance window"),
    ],
)
def test_windows_are_told_in_the_board_s_own_time(source: SimulatedSource, window: Window, reason: str) -> None:
    fleet = simulated(1)
    board = dataclasses.replace(fleet.fleet.boards[0], window=window, zone="Etc/UTC")
    plan = make_plan(question(source, (board,)), fleet.carrier(source))
    (found,) = plan.boards
    assert found.reason.startswith(reason)
    assert found.action == ("skip" if reason.startswith(REFUSED) else "update")
    assert Prepared(plan, "", "key").takes_part == (found.action == "update")
    assert len(Prepared(plan, "", "key").refused) == (found.action == "skip")


def test_a_window_of_a_board_that_tells_its_own_time(source: SimulatedSource) -> None:
    fleet = simulated(1)  # it says that it is an hour ahead of UTC
    board = dataclasses.replace(fleet.fleet.boards[0], window=Window((), 13 * 60 + 30, 14 * 60))
    (found,) = make_plan(question(source, (board,)), fleet.carrier(source)).boards
    assert found.reason == "its window opens 2026-09-22 13:30 there"


def test_what_is_known_of_a_board_beside_its_answer_is_in_its_line(source: SimulatedSource) -> None:
    fleet = simulated(2)
    plan = make_plan(question(source, fleet.fleet.boards, notes={"board-00001": "a twin"}), fleet.carrier(source))
    assert {board.board: board.reason for board in plan.boards} == {"board-00000": "", "board-00001": "a twin"}


def test_a_plan_bears_whether_signatures_are_wanted(source: SimulatedSource) -> None:
    fleet = simulated(1)
    asked, bare = (
        make_plan(question(source, fleet.fleet.boards, insecure_unsigned=bare), fleet.carrier(source))
        for bare in (False, True)
    )
    assert (asked.insecure_unsigned, bare.insecure_unsigned) == (False, True)
    assert asked.digest != bare.digest


def one_refused(rollout: Rollout) -> Rollout:
    left_out = dataclasses.replace(rollout.boards[0], state="skipped", wave=0, detail=f"{REFUSED}no room (disk_full)")
    return dataclasses.replace(rollout, boards=(left_out, *rollout.boards[1:]))


@pytest.mark.parametrize(
    ("rollout", "code"),
    [
        (done_rollout(), 0),
        (one_refused(done_rollout()), 4),
        (halted_rollout(), 3),
        (dataclasses.replace(halted_rollout(), state="cancelled"), 3),
        (dataclasses.replace(halted_rollout(), state="done"), 4),
        (dataclasses.replace(halted_rollout(), state="running"), 130),
        (dataclasses.replace(halted_rollout(), state="paused"), 130),
    ],
)
def test_exit_codes_say_how_it_ended(rollout: Rollout, code: int) -> None:
    assert exit_code(rollout) == code


def test_a_board_that_refused_is_not_a_rollout_that_went_well() -> None:
    rollout = one_refused(done_rollout())
    assert not went_well(rollout)
    assert "no room (disk_full)" in render_rollout(rollout)
