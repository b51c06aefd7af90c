"""The live table, the lines of a log and the events for machines."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace

import pytest
from rich.console import Console

from edgeopt.report.fleet_progress import PatientConsole, RolloutView
from edgeopt.report.fleet_table import Speeds, live_view, print_plan, print_rollout, print_rollouts
from support.records import HOSTILE
from support.rollout_records import done_rollout, halted_rollout, hostile_rollout, progress, untouched

CONTROLS = {"\x1b", "\u202e", "\r", "\x07"}


def screen(width: int = 120) -> Console:
    return Console(file=io.StringIO(), width=width, highlight=False, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def played(view: RolloutView) -> None:
    """A rollout from its start to its halt."""
    end = halted_rollout()
    start = replace(end, state="running", wave=1, reason="", gates=(), boards=tuple(map(untouched, end.boards)))
    view.begin(start)
    for board in end.boards[:3]:
        view.moved(replace(start, boards=()), (replace(board, state="sending", sent_bytes=0),))
        view.bytes(board.board, 1000, 9000)
        view.bytes(board.board, 9000, 9000)
        view.moved(replace(start, boards=()), (board,))
    view.moved(replace(start, boards=(), wave=2), ())
    view.judged(end.gates[0])
    view.moved(replace(end, boards=()), end.boards[3:])
    view.judged(end.gates[1])


def test_a_log_has_a_line_a_settled_board_a_gate_and_a_change_of_the_rollout() -> None:
    console = screen(200)
    with RolloutView(console) as view:
        played(view)
    lines = text_of(console).splitlines()
    assert lines[0].startswith("Wave 1 is under way: 0 of 42 boards")
    assert any(line.startswith("wave 1 shop-000: ✓ committed, 25.0 MiB sent") for line in lines)
    assert any("+2.1 % of +10.0 % allowed" in line for line in lines)
    assert "gate after wave 2: halted: pi5 is 16.2 % slower" in lines[-1]
    assert any("wave 2 shop-006: ↩ rolled back" in line and "health: p95 19.8 ms" in line for line in lines)
    assert lines[-2].startswith("Halted in wave 2: 8 of 42 boards run detector@1.4.0.")
    assert not any("sending" in line for line in lines)


def test_events_are_one_json_object_a_line() -> None:
    out = io.StringIO()
    with RolloutView(screen(), json_to=out) as view:
        played(view)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {event["event"] for event in found} == {"rollout", "board", "gate"}
    assert [event["state"] for event in found if event["event"] == "rollout"] == ["running", "running", "halted"]
    assert found[-2]["counts"]["rolled_back"] == 1
    gate = [event for event in found if event["event"] == "gate"][-1]
    assert gate["slower"][1] == {"profile": "pi5", "estimate": 0.162, "low": 0.141, "high": 0.18}
    board = next(event for event in found if event["event"] == "board" and event["state"] == "committed")
    assert board["after"]["median_ns"] > 0


class Gone(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_leaves_ends_nothing() -> None:
    for view in (RolloutView(screen(), json_to=Gone()), RolloutView(PatientConsole(file=Gone(), width=80))):
        with view:
            played(view)


def test_quiet_is_quiet() -> None:
    console = screen()
    with RolloutView(console, quiet=True) as view:
        played(view)
    assert text_of(console) == ""


def test_a_terminal_gets_a_table_that_is_gone_in_the_end() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, force_interactive=True, height=50)
    clock = itertools.count(0.0, 1.0)
    with RolloutView(console, now=lambda: next(clock)) as view:
        played(view)
    assert "at work" in text_of(console) or "sending" in text_of(console)
    assert "shop-000" in text_of(console)


def test_the_table_shows_wave_board_state_speed_and_the_measured_against_the_budget() -> None:
    speeds, rollout = Speeds(), halted_rollout()
    sending = replace(progress(40, 2), state="sending", sent_bytes=0)
    speeds.sent(sending.board, 1_000_000, 8_000_000, 10.0)
    speeds.sent(sending.board, 3_000_000, 8_000_000, 12.0)
    boards = (*rollout.boards[:40], sending, *rollout.boards[41:])
    console = screen()
    console.print(live_view(replace(rollout, boards=boards), speeds))
    said = text_of(console)
    assert "977 KiB/s" in said
    assert "2.86 MiB of 7.63 MiB" in said
    assert "of +10.0 %" in said
    assert "rolled back" in said
    assert "halted: pi5 is 16.2 %" in " ".join(said.split())


@pytest.mark.parametrize("width", [80, 160])
def test_plans_and_rollouts_print_at_any_width(width: int) -> None:
    console = screen(width)
    print_plan(halted_rollout().plan, console)
    print_rollout(done_rollout(), console)
    print_rollouts([done_rollout(), halted_rollout()], console)
    said = text_of(console)
    assert "42 update; 1.03 GiB to send" in said
    assert "★ detector@1.4.0 runs on 41 of 42 boards." in said
    assert max(map(len, said.splitlines())) <= width


def test_nothing_that_a_board_says_moves_the_cursor_or_forges_a_line() -> None:
    console, out = screen(), io.StringIO()
    rollout = hostile_rollout(HOSTILE)
    for view in (RolloutView(console), RolloutView(json_to=out)):
        view.begin(replace(rollout, state="running"))
        view.moved(rollout, rollout.boards)
        view.judged(rollout.gates[0])
    console.print(live_view(rollout, Speeds()))
    print_plan(rollout.plan, console)
    print_rollout(rollout, console)
    print_rollouts([rollout], console)
    assert not CONTROLS & set(text_of(console) + out.getvalue())
    assert [json.loads(line) for line in out.getvalue().splitlines()]
