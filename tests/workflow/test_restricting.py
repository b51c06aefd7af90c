"""`device restrict` on a real sshd: its key reaches the runner and nothing else, from hosts with other bundles too."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.errors import EdgeoptError, RunnerError, UsageError
from edgeopt.remote import client
from edgeopt.remote.board import BoardClient
from edgeopt.remote.bundle import Bundle
from edgeopt.remote.client import connect
from edgeopt.signing.key_folder import KeyFolder
from edgeopt.signing.repository import Repository
from edgeopt.signing.setup import initialise
from edgeopt.workflow.restricting import _has_shell, restrict_device
from edgeopt.workflow.workspace import Workspace
from support.device import fresh_computer, pin, random_file
from support.sshd import Sshd, running_sshd


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    fresh_computer(tmp_path, monkeypatch)
    environment = {"EDGEOPT_LOCK": str(tmp_path / "board.lock")}
    with running_sshd(tmp_path / "board", environment=environment) as running:
        pin(running)
        (running.home / ".ssh").mkdir()
        (running.home / ".ssh/authorized_keys").symlink_to(running.folder / "authorized_keys")
        yield running


def test_a_restricted_key_gets_the_runner_and_no_shell(server: Sshd, tmp_path: Path) -> None:
    with Workspace.open() as workspace:
        workspace.inventory.add(server.device())
        done = restrict_device("board", workspace)
        device = workspace.inventory.find("board")
    assert done.others == 1
    assert device.identity_file == str(done.key)
    assert not _has_shell(device)
    assert _has_shell(server.device())
    path, digest = random_file(tmp_path / "model", 3 << 20)
    with connect(device) as connection:
        assert connection.hello["restricted"] is True
        assert connection.push(path, digest).sent_bytes == 3 << 20
        connection.fetch(digest, tmp_path / "back", 4 << 20)
        assert connection.run_job(client.jobs.plain_job("rehearse", "test", None, fields={}))["status"] == "ok"
        with pytest.raises(RunnerError, match="may only talk to the runner"):
            connection.run_job(client.jobs.plain_job("provision", "test", None, fields={"key": "x", "wheels": []}))
        with pytest.raises(RunnerError, match="may only talk to the runner"):
            connection.clean(force=True)
    with Workspace.open() as workspace, pytest.raises(UsageError, match="restricted already"):
        restrict_device("board", workspace)


def test_a_host_with_another_runner_is_served_by_the_one_that_is_there_unless_its_own_is_signed(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.open() as workspace:
        workspace.inventory.add(server.device())
        device = restrict_device("board", workspace).device
    old = client._bundle()
    data = old.path.read_bytes() + b"newer"
    newer = Bundle(tmp_path / "newer.pyz", hashlib.sha256(data).hexdigest(), "ef" * 32)
    newer.path.write_bytes(data)
    monkeypatch.setattr(client, "_bundle", lambda: newer)
    with connect(device) as connection:
        assert old.digest in connection.placed.bundle
        board = BoardClient(connection)
        tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
        initialise(tree, passphrase=None, now=time.time())
        board.enrol(tree.root())
        sign_runner(tree, data)
        board.bring_trust(tree.metadata_for_push(board.trust().versions()))
    with connect(device) as connection:
        assert newer.digest in connection.placed.bundle
        assert connection.hello["restricted"] is True
    with connect(device) as connection:
        assert newer.digest in connection.placed.bundle
        assert BoardClient(connection).trust().enrolled


def sign_runner(tree: Repository, data: bytes) -> None:
    """Put a runner among the signed targets."""
    tree.add_target("runner/edgeopt_runner.pyz", data)
    tree.publish()


def test_where_the_key_does_not_take_nothing_of_the_inventory_changes(server: Sshd) -> None:
    (server.home / ".ssh/authorized_keys").unlink()
    with Workspace.open() as workspace:
        workspace.inventory.add(server.device())
        with pytest.raises(EdgeoptError, match="does not reach the runner"):
            restrict_device("board", workspace)
        assert workspace.inventory.find("board") == server.device()
        assert dataclasses.is_dataclass(server.device())
