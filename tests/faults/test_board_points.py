"""Every fault point of a board's releases, killed and failing there: the board stays sound, and the same order goes on.

The model is a few bytes and the check looks at nothing but a table: what is tested is the transaction, which is the
very code that runs with an engine (`tests/sdk/remote/test_board.py` has that).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgeopt_runner import faults, runtimes, transaction
from edgeopt_runner.release_store import ReleaseStore
from support.board_updates import CHECKS, act, assert_sound, bring, install, state_of, update_now


class Scenario(NamedTuple):
    """What brings a board to a point.

    Attributes:
        check: How launches go: a key of `CHECKS`.
        committed: Whether the update is committed when the point is reached.
        damaged: Whether the active release is spoilt first, and only looked at.
    """

    check: str = "healthy"
    committed: bool = False
    damaged: bool = False


BEFORE, BACK = Scenario(), Scenario(check="sick_after")
SCENARIOS = {
    "release.stage": BEFORE,
    "release.link": BEFORE,
    "release.rename": BEFORE,
    "release.smoke": BEFORE,
    "release.switching": BEFORE,
    "release.previous": BEFORE,
    "release.current": BEFORE,
    "release.switched": BEFORE,
    "release.health": BEFORE,
    "release.commit": BEFORE,
    "release.golden": BEFORE,
    "release.prune": Scenario(committed=True),
    "release.returning": BACK,
    "release.return": BACK,
    "release.returned": BACK,
    "release.fallback": Scenario(damaged=True),
    "update.fence": BEFORE,
    "update.preflight": BEFORE,
    "update.attempt": BEFORE,
    "update.before": BEFORE,
    "update.collect": Scenario(committed=True),
}
"""How each point is reached. A new point needs a line here."""


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board that runs 1.1.0 and ran 1.0.0."""
    (tmp_path / "objects").mkdir()
    install(tmp_path, b"model one", "1.0.0", 1)
    install(tmp_path, b"model two", "1.1.0", 2)
    return tmp_path


def forked(deed: Callable[[], Any], fault: str) -> int:
    """Do something in a child of this process under a fault; minus the signal that ended it, or its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            faults._faults = faults.parse(fault)
            deed()
            os._exit(0)
        finally:
            os._exit(3)
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def test_every_point_has_a_scenario() -> None:
    points = {name for name in faults.POINTS if name.startswith(("release.", "update."))}
    assert set(SCENARIOS) == points, "a new transition needs a fault test: give it a scenario"


def order(board: Path) -> dict[str, Any]:
    return bring(board, b"model three", "1.2.0", 3, job={"fence": 5, "golden": True})


def deed_of(board: Path, scenario: Scenario) -> Callable[[], Any]:
    if scenario.damaged:
        spoil(board, 2)
        return lambda: state_of(board)
    job = order(board)
    return lambda: act("update", board, job, CHECKS[scenario.check]())


def spoil(board: Path, number: int) -> None:
    path = board / f"apps/digits/releases/{number}/model.onnx"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(b"X" + data[1:])


@pytest.mark.parametrize("point", SCENARIOS)
def test_kill_at_a_point_leaves_a_sound_board_and_the_same_order_goes_on(board: Path, point: str) -> None:
    scenario = SCENARIOS[point]
    assert forked(deed_of(board, scenario), point + ":kill9") == -signal.SIGKILL
    if scenario.damaged:
        assert assert_sound_after_damage(board)["version"] == "1.0.0"
        return
    report = assert_sound(board)
    assert report["version"] == ("1.2.0" if scenario.committed else "1.1.0")
    again = update_now(board, order(board))
    assert again["outcome"] == ("nothing" if scenario.committed else "committed")
    assert assert_sound(board)["golden"] == "1.2.0"


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS", "EDQUOT"])
@pytest.mark.parametrize("point", SCENARIOS)
def test_an_error_at_a_point_leaves_a_sound_board_and_the_same_order_goes_on(
    board: Path, point: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[point]
    deed = deed_of(board, scenario)
    monkeypatch.setattr(faults, "_faults", faults.parse(f"{point}:raise={error}"))
    try:
        found = deed()
    except OSError:
        found = None
    monkeypatch.setattr(faults, "_faults", {})
    if scenario.damaged:
        assert assert_sound_after_damage(board)["version"] == "1.0.0"
        return
    if found is not None and not scenario.committed:
        assert found["update"]["outcome"] in ("aborted", "rolled_back"), found
        assert found["status"] in ("disk_full", "read_only", "error", "health_failed")
    assert assert_sound(board)["version"] == ("1.2.0" if scenario.committed else "1.1.0")
    assert update_now(board, order(board))["outcome"] == ("nothing" if scenario.committed else "committed")


def assert_sound_after_damage(board: Path) -> dict[str, Any]:
    """As `assert_sound`, where what is active is known to be damaged until somebody looks."""
    state_of(board)
    return assert_sound(board)


def test_a_board_that_dies_on_the_way_back_every_time_stops_after_28_steps_and_says_so(board: Path) -> None:
    job = order(board)
    assert forked(lambda: act("update", board, job, CHECKS["healthy"]()), "release.health:kill9") == -signal.SIGKILL
    store = ReleaseStore(str(board), "digits")
    deaths = 0
    while forked(lambda: state_of(board), "release.return:kill9") == -signal.SIGKILL:
        deaths += 1
        assert deaths < 40
    assert store.journal.last()["transitions"] <= transaction.MOST_TRANSITIONS + 1
    report = assert_sound(board, stopped=True)
    assert "again and again" in store.journal.last()["detail"]
    assert report["failed"]["1.2.0"]
    assert install(board, b"model four", "1.3.0", 4, job={"fence": 5})["outcome"] == "committed"
    assert_sound(board)


def test_a_release_that_kills_the_board_is_tried_three_times_and_no_more(board: Path) -> None:
    job = order(board)
    for _ in range(3):
        deed = deed_of(board, BEFORE)
        assert forked(deed, "release.health:kill9") == -signal.SIGKILL
    assert update_now(board, job)["code"] == "penalised"
    assert "interrupted while switched" in assert_sound(board)["failed"]["1.2.0"]
