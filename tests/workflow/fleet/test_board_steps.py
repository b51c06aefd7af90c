"""One board's way through a rollout, over a simulated board, step by step."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from edgeopt.core.fleet import Window
from edgeopt.core.rollout import BoardProgress
from edgeopt.workflow.fleet.board_steps import Errand, update_board
from edgeopt.workflow.fleet.engine_port import Order
from support.rollouts import progress
from support.simulated_boards import SimulatedFleet, SimulatedSource

NAME = "board-00000"
FOUR = 1_790_078_400.0 - 8 * 3600  # 2026-09-22 04:00 UTC
NIGHT = Window((), 60, 270)  # 01:00 to 04:30


@pytest.mark.parametrize(
    ("zone", "state"),
    [(dt.timezone.utc, "waiting"), (None, "waiting"), (dt.timezone(dt.timedelta(hours=-2)), "committed")],
)
def test_a_window_that_closes_while_files_are_sent_is_waited_for(
    tmp_path: Path, zone: dt.tzinfo | None, state: str
) -> None:
    source, boards = SimulatedSource(tmp_path, ("pi5",)), SimulatedFleet.of(1, lambda _: {})
    clock = [FOUR if zone else FOUR - 3600]  # the board says that it is an hour ahead
    told: list[BoardProgress] = []

    def sent(there: int, of: int) -> None:
        clock[0] = clock[0] + 3600 if there == of else clock[0]

    order = Order("r", NAME, "detector", "1.0.0", source.digest, "releases/detector/1.0.0.json", "pi5", 1)
    leased = progress(NAME, "leased", attempts=1)
    errand = Errand(leased, order, lambda: True, lambda _: None, sent, told.append, NIGHT, zone, lambda: clock[0])
    ended = update_board(errand, boards.carrier(source))
    assert [one.state for one in told][:2] == ["preflight", "sending"]
    assert (ended.state, boards.total("restarts")) == (state, int(state == "committed"))
    assert ended.sent_bytes > 0
    if state == "waiting":
        assert ended.retry_at == (FOUR if zone else FOUR - 3600) + 21 * 3600
