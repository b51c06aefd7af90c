"""What the audit log says of a deed: one line before it, and a second where nothing came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.errors import SigningError
from edgeopt.signing.edition import PendingError
from edgeopt.signing.key_folder import new_key, read_public
from edgeopt.signing.rotation import change
from edgeopt.signing.setup import initialise
from edgeopt.workflow.fleet.auditing import audit_log, deed
from edgeopt.workflow.fleet.composing import ReleaseRequest
from edgeopt.workflow.fleet.publishing import publish
from edgeopt.workflow.fleet.tree import repository_of
from edgeopt.workflow.workspace import Workspace
from support.publishing import keep_run, make_keys

NOW = 1_790_000_000.0
REQUEST = ReleaseRequest("net", "1.0", runs=("run-1",))


def lines(workspace: Workspace) -> list[tuple[str, str]]:
    return [(entry.what, entry.why) for entry in audit_log(workspace).entries()]


def test_a_release_that_a_wrong_passphrase_kept_from_being_signed_is_said_to_have_failed(
    edgeopt_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.open() as workspace:
        keep_run(workspace, tmp_path / "runs", "run-1")
        initialise(repository_of(workspace), passphrase="right", now=NOW)
        monkeypatch.setenv("EDGEOPT_KEY_PASSPHRASE", "wrong")
        with pytest.raises(SigningError, match="passphrase"):
            publish(REQUEST, workspace, now=lambda: NOW)
        (begun, _), (failed, why) = lines(workspace)
        assert (begun, failed) == ("publish", "publish.failed")
        assert "the passphrase does not open" in why
        monkeypatch.setenv("EDGEOPT_KEY_PASSPHRASE", "right")
        publish(REQUEST, workspace, now=lambda: NOW)
        assert [what for what, _ in lines(workspace)] == ["publish", "publish.failed", "publish"]
        assert audit_log(workspace).verify().ok


def test_a_release_that_others_have_to_sign_is_said_to_wait(edgeopt_home: Path, tmp_path: Path) -> None:
    with Workspace.open() as workspace:
        keep_run(workspace, tmp_path / "runs", "run-1")
        make_keys(workspace, now=NOW)
        new_key(tmp_path / "bob.key", None)
        log, bob = audit_log(workspace), read_public(tmp_path / "bob.key.pub")
        with pytest.raises(PendingError), deed(log, "keys.add", "targets", now=lambda: NOW):
            change(repository_of(workspace), "targets", add=bob, threshold=2, now=NOW)
        assert [what for what, _ in lines(workspace)] == ["keys.add", "keys.add.waits"]
        assert "1 of the 2 keys" in lines(workspace)[1][1]


def test_an_interrupted_deed_is_said_to_have_failed(edgeopt_home: Path) -> None:
    with Workspace.open() as workspace:
        with pytest.raises(KeyboardInterrupt), deed(audit_log(workspace), "offer", "net@1.0", now=lambda: NOW):
            raise KeyboardInterrupt
        assert lines(workspace) == [("offer", ""), ("offer.failed", "KeyboardInterrupt")]
