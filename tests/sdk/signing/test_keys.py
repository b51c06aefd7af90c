"""Key files: locked, private, never overwritten; each way in which one cannot be used has its own message."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edgeopt.errors import SigningError
from edgeopt.signing.key_folder import KeyFolder, new_key, read_private, read_public
from edgeopt.signing.repository import Repository
from edgeopt.signing.setup import initialise

NOW = 1_900_000_000.0


def ask(passphrase: str):
    return lambda _name: passphrase


def test_a_locked_key_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    made = new_key(tmp_path / "a.key", "correct horse")
    assert read_private(tmp_path / "a.key", ask("correct horse")).public_key == made.public_key
    with pytest.raises(SigningError, match=r"the passphrase does not open .*a\.key"):
        read_private(tmp_path / "a.key", ask("wrong"))
    assert b"ENCRYPTED" not in (tmp_path / "a.key").read_bytes()
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_ssh_keygen_changes_a_passphrase(tmp_path: Path) -> None:
    made = new_key(tmp_path / "a.key", "old one")
    subprocess.run(
        ["ssh-keygen", "-p", "-P", "old one", "-N", "new one", "-f", tmp_path / "a.key"],
        check=True,
        capture_output=True,
    )
    assert read_private(tmp_path / "a.key", ask("new one")).public_key == made.public_key


def test_the_passphrase_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_key(tmp_path / "a.key", "secret")
    monkeypatch.setenv("EDGEOPT_KEY_PASSPHRASE", "secret")
    read_private(tmp_path / "a.key")
    monkeypatch.delenv("EDGEOPT_KEY_PASSPHRASE")
    with pytest.raises(SigningError, match="locked with a passphrase"):
        read_private(tmp_path / "a.key")


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("mine")
    with pytest.raises(SigningError, match="File exists"):
        new_key(tmp_path / "a.key", None)
    assert (tmp_path / "a.key").read_text() == "mine"


@pytest.mark.parametrize("data", [b"", b"noise", b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n", b"\xff" * 20000])
def test_what_is_no_private_key_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.key").write_bytes(data)
    with pytest.raises(SigningError, match="is not a private key"):
        read_private(tmp_path / "a.key")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "a.key"]
    subprocess.run(command, check=True)
    with pytest.raises(SigningError, match="is not an Ed25519 key"):
        read_private(tmp_path / "a.key")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"keyval": {"public": "zz"}}', '{"keytype": "rsa"}'])
def test_what_is_no_public_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pub").write_text(text)
    with pytest.raises(SigningError, match="has no public key"):
        read_public(tmp_path / "a.pub")


def test_the_identifier_of_a_public_key_is_computed_not_believed(tmp_path: Path) -> None:
    made = new_key(tmp_path / "a.key", None)
    path = tmp_path / "a.key.pub"
    path.write_text(json.dumps({**json.loads(path.read_text()), "keyid": "0" * 64}))
    assert read_public(path).keyid == made.public_key.keyid


def test_a_set_is_made_once_and_root_and_targets_are_locked(tmp_path: Path) -> None:
    tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys", ask("secret")))
    made = initialise(tree, passphrase="secret", now=NOW)
    assert set(made.keyids) == {"root", "targets", "snapshot", "timestamp", "rollouts"}
    assert sorted(path.name.partition("-")[0] for path in made.recovery.iterdir()) == ["root", "targets"]
    with pytest.raises(SigningError, match="there are keys already") as caught:
        initialise(tree, passphrase="secret", now=NOW)
    assert str(tmp_path / "keys") in caught.value.message
    later = Repository(tree.folder, KeyFolder(tmp_path / "keys", ask("wrong")))
    later.refresh(NOW + 5 * 86400)  # what signs unattended asks for nothing
    later.add_target("releases/a/1.json", b'{"counter": 1}')
    with pytest.raises(SigningError, match="the passphrase does not open"):
        later.publish(NOW)
    copy = next(made.recovery.glob("root-*"))
    assert read_private(copy, ask("secret")).public_key.keyid == made.keyids["root"]


def test_keys_are_not_made_over_a_tree(tmp_path: Path) -> None:
    tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    initialise(tree, passphrase=None, now=NOW)
    with pytest.raises(SigningError, match="there is a signed tree already"):
        initialise(Repository(tree.folder, KeyFolder(tmp_path / "other")), passphrase=None, now=NOW)


def test_an_empty_passphrase_is_none(tmp_path: Path) -> None:
    tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    with pytest.raises(SigningError, match="the passphrase is empty"):
        initialise(tree, passphrase="", now=NOW)
    assert not (tmp_path / "keys").exists()


def test_another_key_under_a_keys_name_is_refused(tmp_path: Path) -> None:
    tree = Repository(tmp_path / "releases", KeyFolder(tmp_path / "keys"))
    initialise(tree, passphrase=None, now=NOW)
    path = next((tmp_path / "keys").glob("timestamp-*.key"))
    path.write_bytes(next((tmp_path / "keys").glob("snapshot-*.key")).read_bytes())
    with pytest.raises(SigningError, match="is not key"):
        Repository(tree.folder, KeyFolder(tmp_path / "keys")).freshness("0" * 64, NOW)
