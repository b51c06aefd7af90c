"""Where a rollout goes back to, and what becomes of it where the way back cannot be signed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.cli.fleet_updating import Way, roll_back
from edgeopt.core.device import Device
from edgeopt.core.fleet import Caps
from edgeopt.core.rollout import BoardProgress, GatePolicy, Plan, PlannedBoard, Rollout
from edgeopt.errors import RolloutBusyError, SigningError, UsageError
from edgeopt.fleet.rollout import new_rollout
from edgeopt.signing.setup import initialise
from edgeopt.workflow.fleet import returning
from edgeopt.workflow.fleet.auditing import audit_log
from edgeopt.workflow.fleet.composing import ReleaseRequest
from edgeopt.workflow.fleet.publishing import publish, releases
from edgeopt.workflow.fleet.returning import restore, way_back
from edgeopt.workflow.fleet.rollouts import find_rollout, rollout_store
from edgeopt.workflow.fleet.tree import repository_of
from edgeopt.workflow.workspace import Workspace
from support.publishing import keep_run

ID = "0123456789abcdef"


@pytest.fixture
def workspace(edgeopt_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Three releases, keys with a passphrase that is known."""
    monkeypatch.setenv("EDGEOPT_KEY_PASSPHRASE", "right")
    with Workspace.open() as opened:
        initialise(repository_of(opened), passphrase="right", now=1_000_000_000_000.0 / 1000)
        keep_run(opened, tmp_path / "runs", "run-1")
        yield opened


def published(workspace: Workspace, *versions: str) -> None:
    repository_of(workspace).refresh(also=("root", "targets"))
    for version in versions:
        publish(ReleaseRequest("net", version, runs=("run-1",)), workspace)


def kept(workspace: Workspace, befores: tuple[str, ...], state: str = "halted", release: str = "net@1.2") -> None:
    """A rollout whose boards have committed, but for the last, which was never begun."""
    planned = [PlannedBoard(f"b{n}", "pi5", "", 1, "update", before=before) for n, before in enumerate(befores)]
    plan = Plan(release, "ab" * 32, ("100%",), tuple(planned), GatePolicy(), Caps())
    rollout = replace(new_rollout(ID, plan), state=state)
    boards = [replace(board, state="committed") for board in rollout.boards[:-1]]
    with rollout_store(workspace) as store:
        store.create(rollout, key="key", now=1.0)
        fence = store.take(ID, "ann@desk:1", now=1.0)
        store.save(replace(rollout, fence=fence), boards)
        store.give_back(ID, fence)


@pytest.mark.parametrize(
    ("stands", "attempts", "goes_back"),
    [
        *((name, 1, True) for name in ("leased", "sending", "staged", "activated", "healthy")),
        *((name, tried, bool(tried)) for name in ("waiting", "unreachable", "failed") for tried in (0, 1)),
        *((name, 1, False) for name in ("pending", "skipped", "rolled_back")),
    ],
)
def test_a_board_that_may_run_the_release_goes_back_too(stands: str, attempts: int, goes_back: bool) -> None:
    plan = Plan("net@1", "ab" * 32, ("100%",), (PlannedBoard("b0", "pi5", "", 1, "update"),), GatePolicy(), Caps())
    made = new_rollout(ID, plan)
    rollout = replace(made, boards=(replace(made.boards[0], state=stands, attempts=attempts),))
    assert returning._changed(rollout) == (("b0",) if goes_back else ())


def state(workspace: Workspace) -> Rollout:
    return find_rollout(ID, workspace)


def begin_the_last(workspace: Workspace) -> None:
    """What happens while the operator is asked."""
    with rollout_store(workspace) as store:
        fence = store.take(ID, "ann@desk:1", now=2.0)
        rollout = store.rollout(ID)
        store.save(rollout, [replace(rollout.boards[-1], state="committed", attempts=1)])
        store.give_back(ID, fence)


def test_the_boards_that_changed_go_back_to_what_most_of_them_had(workspace: Workspace) -> None:
    published(workspace, "1.0", "1.1", "1.2")
    kept(workspace, ("1.0", "1.1", "1.0", "1.1"))
    back = way_back(ID, "", workspace)
    begin_the_last(workspace)
    assert (back.app, back.version, back.boards, back.ended) == ("net", "1.0", ("b0", "b1", "b2"), False)
    assert way_back("last", "1.1", workspace).version == "1.1"
    request = restore(back, ("100%",), workspace, command="edgeopt fleet rollback")
    assert (request.release, request.selector) == ("net@1.0+restored.4", "name in (b0,b1,b2,b3)")
    assert next(one for one in releases(workspace) if one.counter == 4).restores == "1.0"
    assert state(workspace).state == "cancelled"


def test_where_the_way_back_cannot_be_signed_the_rollout_can_go_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(workspace, "1.0", "1.2")
    kept(workspace, ("1.0", "1.0"))
    monkeypatch.setenv("EDGEOPT_KEY_PASSPHRASE", "wrong")
    with pytest.raises(SigningError, match="passphrase"):
        restore(way_back(ID, "", workspace), ("100%",), workspace, command="edgeopt fleet rollback")
    assert state(workspace).state not in ("done", "cancelled")
    with rollout_store(workspace) as store:
        assert store.ordered(ID)[0] == "pause"  # no board is begun by whoever drives it
        assert store.find_open("key") == ID
    kinds = [entry.what for entry in audit_log(workspace).entries()]
    assert kinds[-3:] == ["publish", "publish.failed", "rollout.rollback.failed"]


@pytest.mark.parametrize(
    ("befores", "version", "said"),
    [
        (("1.0",), "", "no board has net@1.2"),
        (("", ""), "", "had no published release of net before"),
        (("0.9", "0.9"), "", r"net@0.9 is not published \(there is: 1.0, 1.2\)"),
        (("1.0", "1.0"), "7", r"net@7 is not published"),
    ],
)
def test_there_is_no_way_back(workspace: Workspace, befores: tuple[str, ...], version: str, said: str) -> None:
    published(workspace, "1.0", "1.2")
    kept(workspace, befores)
    with pytest.raises(UsageError, match=said):
        way_back(ID, version, workspace)
    assert state(workspace).state == "halted"


def test_a_way_back_is_not_undone_unless_a_version_is_named(workspace: Workspace) -> None:
    published(workspace, "1.0", "1.2")
    publish(ReleaseRequest("net", "1.0+restored.3", restore="1.0"), workspace)
    kept(workspace, ("1.2", "1.2"), release="net@1.0+restored.3")
    with pytest.raises(UsageError, match=r"is a way back itself \(to 1.0\)"):
        way_back(ID, "", workspace)
    assert way_back(ID, "1.2", workspace).version == "1.2"
    assert isinstance(state(workspace).boards[0], BoardProgress)


def test_where_somebody_still_drives_the_app_the_way_back_that_is_signed_is_gone_on_with(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    published(workspace, "1.0", "1.2")
    kept(workspace, ("1.0", "1.0"))
    workspace.inventory.add(Device("b0", "ssh", host="127.0.0.1", port=1, profile="pi5"))
    with rollout_store(workspace) as store:
        store.take(ID, "ann@laptop:1", now=time.time())
    with pytest.raises(RolloutBusyError, match=r"edgeopt fleet resume net@1.0\+restored.3 --takeover"):
        roll_back(ID, "", ("100%",), Way(yes=True, as_json=True), None)
