"""What operators do to a rollout under way, behind a real sshd: Ctrl-C, a takeover, boards that come back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from edgeopt.workflow.workspace import Workspace
from support.small_fleet import LOOSE, SmallFleet, next_event, small_fleet

BOARDS = ("shop-1", "shop-2")


def update(release: str, to: str = "name=shop-*") -> tuple[str, ...]:
    return ("fleet", "update", release, "--to", to, "--waves", "1,100%", *LOOSE, "--yes")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallFleet]:
    """Two enrolled boards and one that is not, two published releases."""
    with (
        pytest.MonkeyPatch.context() as patch,
        small_fleet(tmp_path_factory.mktemp("fleet"), patch, (*BOARDS, "new")) as made,
    ):
        with Workspace.open() as workspace:
            made.publish(workspace, "1.0", "1.1")
            made.enrol(workspace, *BOARDS)
        yield made


def test_ctrl_c_ends_the_board_at_work_and_the_same_command_goes_on_with_the_others(fleet: SmallFleet) -> None:
    stopped = fleet.start(*update("net@1.0"), "--json")
    rollout = next_event(stopped, event="board", state="activated")["rollout"]
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, out + err
    assert sorted(fleet.running(name) for name in BOARDS) == [("", 0), ("1.0", 1)]
    events = fleet.run(*update("net@1.0"), code=0)
    assert (events[0]["resumed"], events[-1]["rollout"]) == (True, rollout)
    assert [fleet.running(name) for name in BOARDS] == [("1.0", 1), ("1.0", 1)]  # neither was changed twice
    assert fleet.noted("rollout.start") == 1
    assert any("the same board under two names" in board["reason"] for board in events[0]["plan"]["boards"])


def test_who_takes_over_from_a_sleeping_laptop_updates_the_board_that_came_back_and_the_laptop_yields(
    fleet: SmallFleet,
) -> None:
    before = fleet.noted("rollout.start")
    command = update("net@1.1", "shop-1")
    fleet.sshd.stop()
    first = fleet.start(*command, "--json")
    rollout = next_event(first, event="board", state="waiting")["rollout"]
    first.send_signal(signal.SIGSTOP)
    fleet.sshd.start()
    try:
        *_, refused = fleet.run(*command, code=2)
        assert f":{first.pid}" in refused["error"]["message"]
        assert "--takeover" in refused["error"]["remedy"]
        fleet.run(*command, "--takeover", code=0)
        assert fleet.running("shop-1")[0] == "1.1"
    finally:
        first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 2, out + err
    assert "has taken" in out + err
    assert (fleet.noted("rollout.takeover"), fleet.noted("rollout.start")) == (1, before + 1)
    (history,) = fleet.run("fleet", "history", code=0)
    assert history["rollouts"][0]["rollout_id"] == rollout


def test_where_every_board_refuses_a_plan_ends_as_the_update_does(fleet: SmallFleet) -> None:
    (plan,) = fleet.run(*update("net@1.0", "new"), "--plan", code=4)
    (board,) = plan["boards"]
    assert "it is not enrolled: it believes no release yet. Enrol it: edgeopt fleet enrol BOARD." in board["reason"]
    *_, end = fleet.run(*update("net@1.0", "new"), code=4)
    assert end["exit_code"] == 4
    assert fleet.running("new") == ("", 0)


@pytest.mark.long
def test_a_rollout_without_signatures_is_resumed_as_it_was_planned(fleet: SmallFleet) -> None:
    """Long: a third update of a real board; `test_planning` shows that the plan bears it."""
    fleet.sshd.stop()
    stopped = fleet.start(*update("net@1.0", "new"), "--insecure-unsigned", "--json")
    rollout = next_event(stopped, event="board", state="waiting")["rollout"]
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, out + err
    fleet.sshd.start()
    fleet.run("fleet", "resume", rollout, code=0)
    assert fleet.running("new") == ("1.0", 1)
    assert fleet.noted("insecure") == 1
