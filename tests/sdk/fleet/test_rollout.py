"""The state machine of a rollout, with boards that answer at once and a clock that we turn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Caps
from edgeopt.core.rollout import BoardProgress, GatePolicy, Plan, Rollout
from edgeopt.errors import UsageError
from edgeopt.fleet.patience import Patience
from edgeopt.fleet.plan import Forecast, build_plan
from edgeopt.fleet.rollout import UNDER_WAY, RolloutMachine, new_rollout
from support.rollouts import figures

PATIENCE = Patience(tries=2, first_wait_seconds=10.0, away_seconds=60.0)
Ends = Callable[[BoardProgress], BoardProgress]


def plan(count: int, waves: tuple[str, ...], gate: GatePolicy | None = None, caps: Caps | None = None) -> Plan:
    boards = [Board(Device(f"b{number}", "ssh", host="h", profile=f"k{number % 3}")) for number in range(count)]
    known = {board.name: Forecast("update") for board in boards}
    return build_plan("d@1", "0" * 64, boards, known, waves=waves, terms=(gate or GatePolicy(), caps or Caps()))


def committed(board: BoardProgress) -> BoardProgress:
    return dataclasses.replace(board, state="committed", before=figures(), after=figures())


def failing(*names: str) -> Ends:
    return lambda board: dataclasses.replace(
        committed(board), **({"state": "rolled_back", "failure": "health"} if board.board in names else {})
    )


def offline(*names: str) -> Ends:
    return lambda board: (
        dataclasses.replace(board, state="unreachable", failure="network") if board.board in names else committed(board)
    )


class Driver:
    """Does what the machine asks, at once."""

    def __init__(
        self, rollout: Rollout, ends: Ends = committed, opens: Callable[[str, float], float] | None = None
    ) -> None:
        self.machine = RolloutMachine(rollout, {}, opens or (lambda _, now: now), PATIENCE)
        self.now, self.ends = 1000.0, ends
        self.begun: list[str] = []

    def step(self) -> bool:
        """One tick and the answers to it; whether anything was asked."""
        step = self.machine.tick(self.now)
        for board in step.start:
            self.begun.append(board.board)
            self.machine.report(self.ends(board), over=True, now=self.now)
        for board in step.recheck:
            self.machine.report(dataclasses.replace(board, soaked=figures()), over=True, now=self.now)
        return bool(step.start or step.recheck or step.gate)

    def run(self, seconds: float = 0.0) -> Rollout:
        """Until nothing happens any more, up to so many seconds from now."""
        end = self.now + seconds
        self.machine.begin(self.now)
        while True:
            while self.step():
                pass
            due = self.machine.tick(self.now).next_at
            if self.machine.resting or due is None or max(due, self.now + 0.1) > end:
                return self.machine.rollout
            self.now = max(due, self.now + 0.1)


def test_waves_follow_each_other_to_the_end() -> None:
    rollout = Driver(new_rollout("r", plan(30, ("1", "10%", "100%")))).run()
    assert (rollout.state, rollout.wave, [gate.verdict for gate in rollout.gates]) == ("done", 3, ["go"] * 3)
    assert {board.state for board in rollout.boards} == {"committed"}
    assert all(board.attempts == 1 for board in rollout.boards)


def test_a_plan_that_needs_nothing_is_done_at_once() -> None:
    boards = [Board(Device("b", "ssh", host="h"))]
    nothing = build_plan(
        "d@1", "", boards, {"b": Forecast("nothing", before="1")}, waves=("100%",), terms=(GatePolicy(), Caps())
    )
    driver = Driver(new_rollout("r", nothing))
    assert driver.run().state == "done"
    assert driver.begun == []


def test_a_failure_too_many_halts_within_one_tick() -> None:
    caps = Caps(concurrency=5)
    made = plan(200, ("100%",), caps=caps)
    order = [board.board for board in made.boards]
    driver = Driver(new_rollout("r", made), failing(*order[10:20]))
    rollout = driver.run()
    assert rollout.state == "halted"
    assert "failed (health" in rollout.reason
    # 200 boards may have 4 failures; the fifth is known with the third handful
    assert driver.begun == order[:15]
    assert rollout.gates[-1].verdict == "halt"


def test_a_halted_wave_goes_on_when_it_is_told_to_and_its_gate_is_passed() -> None:
    made = plan(20, ("2", "100%"))
    driver = Driver(new_rollout("r", made), failing(made.boards[0].board))
    assert driver.run().state == "halted"
    driver.machine.order("resume", "alice", driver.now)
    rollout = driver.run()
    assert rollout.state == "done"
    assert "resumed by alice" in rollout.gates[1].reasons[0]


def test_pause_begins_nothing_and_resume_goes_on() -> None:
    driver = Driver(new_rollout("r", plan(20, ("100%",), caps=Caps(concurrency=5))))
    driver.machine.begin(driver.now)
    driver.step()
    driver.machine.order("pause", "alice", driver.now)
    assert not driver.step()
    assert driver.machine.resting
    assert driver.machine.head.reason == "paused by alice"
    driver.machine.order("resume", "alice", driver.now)
    assert driver.run().state == "done"
    assert len(driver.begun) == 20


def test_what_is_cancelled_stays_so() -> None:
    driver = Driver(new_rollout("r", plan(20, ("100%",), caps=Caps(concurrency=5))))
    driver.machine.begin(driver.now)
    driver.step()
    driver.machine.order("cancel", "alice", driver.now)
    assert driver.run().state == "cancelled"
    assert len(driver.begun) == 5
    with pytest.raises(UsageError, match="rollout r is cancelled"):
        driver.machine.order("resume", "alice", driver.now)


def test_boards_that_are_away_are_tried_again_and_the_wave_goes_on_without_them() -> None:
    made = plan(10, ("5", "100%"))
    away = made.boards[0].board
    driver = Driver(new_rollout("r", made), offline(away))
    rollout = driver.run(seconds=20)
    assert rollout.state == "done"
    assert driver.machine.board(away).state == "unreachable"
    assert driver.begun.count(away) == PATIENCE.tries


def test_a_board_that_comes_back_is_brought_to_the_release_while_the_rollout_lasts() -> None:
    made = plan(10, ("5", "100%"), GatePolicy(soak_seconds=300.0))
    away = made.boards[0].board
    driver = Driver(new_rollout("r", made), offline(away))
    driver.run(seconds=100)
    assert driver.machine.board(away).state == "unreachable"
    driver.ends = committed
    assert driver.run(seconds=1000).state == "done"
    assert driver.machine.board(away).state == "committed"


def test_a_wave_of_boards_that_are_away_waits_and_then_halts() -> None:
    made = plan(3, ("100%",), GatePolicy(max_wave_seconds=3600.0))
    driver = Driver(new_rollout("r", made), offline("b0", "b1", "b2"))
    assert driver.run(seconds=3000).state == "running"
    assert driver.machine.head.gates[-1].verdict == "wait"
    assert len(driver.machine.head.gates) == 1
    rollout = driver.run(seconds=1000)
    assert (rollout.state, rollout.reason) == ("halted", "wave 1 takes longer than 3600 s")


def test_a_board_outside_its_window_waits_for_it_and_its_wave_with_it() -> None:
    made = plan(3, ("100%",), GatePolicy(max_wave_seconds=1800.0))
    driver = Driver(new_rollout("r", made), opens=lambda name, now: max(now, 9000.0) if name == "b1" else now)
    rollout = driver.run(seconds=1000)
    assert driver.machine.board("b1").state == "waiting"
    assert driver.machine.board("b1").retry_at == 9000.0
    assert rollout.state == "running"
    assert driver.run(seconds=10_000).state == "done"
    assert driver.now >= 9000.0


def test_a_large_wave_waits_for_its_window_in_short_steps_and_after_a_restart_too() -> None:
    start = new_rollout("r", plan(1500, ("100%",)))
    machine = RolloutMachine(start, {}, lambda _, now: 5000.0 if now < 5000 else now, PATIENCE)
    machine.begin(1000.0)
    first = machine.tick(1000.0)
    assert (first.start, first.next_at) == ((), 0.0)
    assert 0 < len(first.changed) < 500
    assert {board.state for board in first.changed} == {"waiting"}
    later = RolloutMachine(machine.rollout, {}, lambda _, now: 5000.0 if now < 5000 else now, PATIENCE)
    while later.tick(1001.0).next_at == 0.0:
        pass
    assert {board.state for board in later.rollout.boards} == {"waiting"}, "none begins before its window"
    assert len(later.tick(5000.0).start) == Caps().concurrency


def test_a_window_that_never_comes_again_leaves_its_board_away() -> None:
    made = plan(3, ("100%",))
    driver = Driver(new_rollout("r", made), opens=lambda name, now: math.inf if name == "b1" else now)
    assert driver.run().state == "done"
    assert (driver.machine.board("b1").state, driver.machine.board("b1").detail) == (
        "unreachable",
        "its window has passed",
    )


def test_a_window_that_closes_while_a_board_stands_in_line_is_waited_for_again() -> None:
    made = plan(300, ("100%",), caps=Caps(concurrency=1))
    first = made.boards[0].board
    opens = lambda _, now: 9000.0 if 2000 <= now < 9000 else now  # noqa: E731
    machine = RolloutMachine(new_rollout("r", made), {}, opens, PATIENCE)
    machine.begin(1000.0)
    while machine.tick(1000.0).next_at == 0.0:
        pass
    machine.report(committed(machine.board(first)), over=True, now=5600.0)
    while (step := machine.tick(5600.0)).next_at == 0.0:
        assert step.start == (), "its window closed an hour ago"
    assert {board.state for board in machine.rollout.boards if board.board != first} == {"waiting"}
    assert step.next_at == 9000.0
    assert len(machine.tick(9000.0).start) == 1


def test_a_window_that_is_closed_stops_no_question_of_what_is_true() -> None:
    left = Driver(new_rollout("r", plan(1, ("100%",))))
    left.machine.begin(left.now)
    left.machine.tick(left.now)
    again = RolloutMachine(left.machine.rollout, {}, lambda _, now: now + 60, PATIENCE)
    assert [board.board for board in again.tick(left.now).start] == ["b0"]


@pytest.mark.parametrize("wave", [1, 2])
def test_a_board_that_came_back_is_brought_to_its_end_before_the_rollout_is_over(wave: int) -> None:
    made = plan(10, ("5", "100%"))
    away, slow = made.wave(wave)[0].board, made.wave(2)[1].board
    machine, now = RolloutMachine(new_rollout("r", made), {}, lambda _, now: now, PATIENCE), 1000.0
    begun: dict[str, BoardProgress] = {}
    machine.begin(now)
    while slow not in begun or machine.board(away).attempts <= PATIENCE.tries:
        now += 1.0
        for board in machine.tick(now).start:
            begun[board.board] = board
            if board.board != slow and board.attempts <= PATIENCE.tries:
                machine.report(offline(away)(board), over=True, now=now)
    machine.report(dataclasses.replace(begun[away], state="sending"), over=False, now=now)
    machine.report(committed(begun[slow]), over=True, now=now)
    machine.tick(now)
    assert machine.head.state == "running"
    machine.report(committed(begun[away]), over=True, now=now)
    machine.tick(now)
    assert machine.head.state == "done"


def test_the_soak_ends_with_a_second_measurement_of_every_board() -> None:
    driver = Driver(new_rollout("r", plan(9, ("3", "100%"), GatePolicy(soak_seconds=600.0), Caps(concurrency=2))))
    assert driver.run(seconds=500).state == "soaking"
    rollout = driver.run(seconds=2000)
    assert rollout.state == "done"
    assert all(board.soaked is not None for board in rollout.boards)
    assert driver.now >= 1000.0 + 2 * 600.0


def test_drift_after_the_soak_is_a_failure() -> None:
    driver = Driver(new_rollout("r", plan(3, ("100%",), GatePolicy(soak_seconds=60.0))))
    driver.run(seconds=50)
    driver.now += 70
    asked = driver.machine.tick(driver.now).recheck
    assert len(asked) == 3
    drifted = dataclasses.replace(asked[0], state="failed", failure="health", detail="0.9 is active")
    for board in (drifted, *(dataclasses.replace(board, soaked=figures()) for board in asked[1:])):
        driver.machine.report(board, over=True, now=driver.now)
    assert driver.run(seconds=10).state == "halted"


def test_boards_under_way_when_the_driver_went_are_asked_also_when_nothing_goes_on() -> None:
    made = plan(6, ("100%",), caps=Caps(concurrency=4))
    driver = Driver(new_rollout("r", made))
    driver.machine.begin(driver.now)
    driver.machine.tick(driver.now)
    left = driver.machine.rollout
    assert sum(board.state == "leased" for board in left.boards) == 4
    again = Driver(left)
    assert again.run().state == "done"
    halted = RolloutMachine(dataclasses.replace(left, state="halted"), {}, lambda _, now: now, PATIENCE)
    assert not halted.resting
    asked = halted.tick(1001.0).start
    assert len(asked) == 4
    for board in asked:
        halted.report(dataclasses.replace(board, state="pending"), over=True, now=1001.0)
    assert halted.resting
    assert halted.tick(1002.0).start == ()


def test_draining_ends_with_what_is_under_way() -> None:
    driver = Driver(new_rollout("r", plan(20, ("100%",), caps=Caps(concurrency=5))))
    driver.machine.begin(driver.now)
    started = driver.machine.tick(driver.now).start
    driver.machine.drain()
    assert not driver.machine.resting
    for board in started:
        driver.machine.report(committed(board), over=True, now=driver.now)
    assert driver.machine.tick(driver.now).start == ()
    assert driver.machine.resting
    assert driver.machine.head.state == "running"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.data())
def test_whatever_boards_do_every_one_ends_and_the_machine_rests(count: int, data: st.DataObject) -> None:
    made = plan(count, ("1", "20%", "100%"), GatePolicy(max_wave_seconds=600.0), Caps(concurrency=7))
    fates = {
        board.board: data.draw(
            st.sampled_from(["committed", "committed", "skipped", "rolled_back", "network", "busy", "auth"])
        )
        for board in made.boards
    }

    def ends(board: BoardProgress) -> BoardProgress:
        fate = fates[board.board]
        if fate in ("network", "busy", "auth"):
            fates[board.board] = data.draw(st.sampled_from([fate, "committed"]))
            return dataclasses.replace(board, state="unreachable", failure=fate)
        return dataclasses.replace(committed(board), state=fate)

    driver = Driver(new_rollout("r", made), ends)
    rollout = driver.run(seconds=200_000)
    for _ in range(6):
        if rollout.state in ("halted",):
            driver.machine.order("resume", "alice", driver.now)
            rollout = driver.run(seconds=200_000)
    assert rollout.state == "done"
    assert not any(board.state in (*UNDER_WAY, "pending", "waiting") for board in rollout.boards)
    assert sum(board.state == "committed" for board in rollout.boards) == sum(
        fates[board.board] == "committed" for board in rollout.boards if board.state != "unreachable"
    )
