"""What the ledger serves again of launches, and which attempts are jobs of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.measurement import Correctness, Measurement
from edgeopt.workflow.measuring import ATTEMPTS, Bench, in_vain
from edgeopt.workflow.workspace import Workspace
from support.measurements import latency, measurement, variant
from support.workflow import Heard

WELL = measurement("int8", latency(4.0))
THROTTLED = replace(WELL, flags=("contended", "throttled"))
WRONG = replace(THROTTLED, correctness=Correctness(False, 0.2, None, "cosine 0.2"))


class Spoiling(Bench):
    """A board on which every launch is throttled."""

    def _launch(self, variant: Any, conditions: Any, name: str) -> Measurement:
        self.reused.add(name)
        return THROTTLED


def bench_of(workspace: Workspace, kind: type[Bench] = Bench, **changes: Any) -> Bench:
    """Without a device, which what the ledger knows does not need."""
    nothing: Any = None
    return kind(workspace, nothing, nothing, nothing, nothing, nothing, "run", False, Heard(), **changes)


@pytest.mark.parametrize(
    ("launch", "served"),
    [
        (WELL, True),
        (replace(WELL, flags=("contended",)), True),
        (THROTTLED, False),
        (WRONG, True),  # whatever the clock did, the outputs come out again
        (replace(WELL, status="load_failed"), True),
        (replace(WELL, status="lost"), False),
        (replace(WELL, status="crash"), False),
    ],
)
def test_what_would_come_out_again_is_served_and_what_the_board_spoiled_is_measured_anew(
    tmp_path: Path, launch: Measurement, served: bool
) -> None:
    with Workspace.open(tmp_path) as workspace:
        bench = bench_of(workspace)
        bench.remember("key", 0, launch)
        assert (bench.known("key", 0) == launch) is served
        workspace.ledger.remember_measurement("old", 0, THROTTLED)  # as earlier versions kept it
        assert bench.known("old", 0) is None
        assert bench.reused == ({"key/0"} if served else set())


def test_a_trial_that_is_begun_again_is_given_other_jobs(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as workspace:
        for begun in range(2):
            bench = bench_of(workspace, Spoiling, first_attempt=begun * ATTEMPTS)
            assert bench._measure_now(variant("int8"), None, "key/0") == THROTTLED  # type: ignore[arg-type]
            assert bench.reused == {f"run/key/0/{3 * begun + attempt}" for attempt in range(ATTEMPTS)}


def test_why_a_launch_says_nothing_is_said() -> None:
    assert in_vain(THROTTLED) == "the board spoiled the launch (contended, throttled)"
    assert in_vain(replace(WELL, status="rebooted")) == "the board lost the launch (rebooted)"
    assert [in_vain(one) for one in (WELL, WRONG, replace(WELL, status="crash"))] == [""] * 3
