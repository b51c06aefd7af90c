"""Orders to a rollout whose driver was killed: nobody is said to carry them out, and boards are asked what is true."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Caps
from edgeopt.core.rollout import GatePolicy
from edgeopt.errors import StoreError, UsageError
from edgeopt.fleet.plan import Forecast, build_plan
from edgeopt.fleet.rollout import new_rollout
from edgeopt.workflow.fleet.auditing import audit_log, note
from edgeopt.workflow.fleet.orders import give_order
from edgeopt.workflow.fleet.rollouts import find_rollout, rollout_store
from edgeopt.workflow.workspace import Workspace

ID = "0123456789abcdef"


@pytest.fixture
def workspace(edgeopt_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A rollout that was cut off just now, with one board after its switch; this machine is the board."""
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        child.wait()
    device = Device("b0", "local", root=str(tmp_path / "b0"), profile="pi5")
    terms = (GatePolicy(), Caps())
    plan = build_plan("net@1", "ab" * 32, [Board(device)], {"b0": Forecast("update")}, waves=("100%",), terms=terms)
    made = new_rollout(ID, plan)
    with Workspace.open() as opened:
        opened.inventory.add(device)
        with rollout_store(opened) as store:
            store.create(made, key="key", now=1.0)
            fence = store.take(ID, f"ann@{socket.gethostname()}:{child.pid}", now=time.time())
            left = replace(made.boards[0], state="activated", attempts=1)
            store.save(replace(made, state="running", wave=1, started_at=1.0, fence=fence), [left])
        yield opened


def test_a_cancel_asks_the_boards_that_a_killed_driver_left_under_way(workspace: Workspace) -> None:
    assert give_order("last", "resume", workspace).driver == ""
    assert give_order("last", "cancel", workspace).driver == ""
    ended = find_rollout(ID, workspace)
    assert (ended.state, ended.boards[0].state, ended.boards[0].detail) == ("cancelled", "pending", "nothing was begun")


@pytest.mark.parametrize("missing", ["inventory", "log"])
def test_where_an_order_cannot_be_carried_out_or_logged_none_is_given(
    workspace: Workspace, tmp_path: Path, missing: str
) -> None:
    if missing == "inventory":
        with pytest.raises(UsageError, match="there is no"):
            give_order(ID, "cancel", workspace, inventory=tmp_path / "nowhere.yaml")
        assert audit_log(workspace).entries() == ()
    else:
        note(workspace, "rollout.start", ID)
        os.truncate(workspace.root / "audit.jsonl", 20)
        with pytest.raises(StoreError, match="does not end as it should"):
            give_order(ID, "pause", workspace)
    with rollout_store(workspace) as store:
        assert store.ordered(ID) == ("", "")
