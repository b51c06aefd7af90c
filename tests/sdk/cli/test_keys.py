"""`edgeopt keys` as a user types it: what it prints, what it asks for, and how it fails."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeopt.cli.main import main
from edgeopt.errors import EXIT_WAITS

PASSPHRASE = {"EDGEOPT_KEY_PASSPHRASE": "correct horse"}


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


class Keys:
    """`edgeopt keys` with nobody at the terminal."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *words: str | Path, **environment: str) -> Done:
        """Run a command."""
        with self._monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as left:
                main(["keys", *map(str, words)])
        said = self._capsys.readouterr()
        return Done(int(left.value.code or 0), said.out, said.err)

    def answer(self, *words: str | Path, **environment: str) -> dict[str, Any]:
        """The document of a command that must succeed."""
        done = self(*words, "--json", **environment)
        assert done.code == 0, done
        found: dict[str, Any] = json.loads(done.out)
        return found

    def refusal(self, *words: str | Path, **environment: str) -> str:
        """The message of a command that must fail: one line, with a remedy, exit code 2."""
        done = self(*words, **environment)
        assert done.code == 2, done
        said, remedy = done.err.strip().splitlines()[-2:]
        assert said.startswith("edgeopt: ")
        assert remedy.startswith("  what to do: ")
        return said + remedy


@pytest.fixture
def keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.delenv("EDGEOPT_KEY_PASSPHRASE", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return Keys(capsys, monkeypatch)


def test_one_command_makes_a_usable_set(keys: Keys, edgeopt_home: Path) -> None:
    done = keys("init", **PASSPHRASE)
    assert done.code == 0, done.err
    assert f"Move {edgeopt_home}/keys/recovery to a medium" in done.out
    assert "there are keys already" in keys.refusal("init", **PASSPHRASE)
    found = keys.answer("status")
    assert [role["state"] for role in found["roles"]] == ["good"] * 5
    assert found["waiting"] == []
    table = keys("status").out
    assert all(name in table for name in ("root", "targets", "snapshot", "timestamp", "rollouts"))
    everything = done.out + done.err + table
    assert "PRIVATE" not in everything
    assert "correct horse" not in everything


def test_nothing_is_made_without_a_passphrase_or_a_word(keys: Keys, edgeopt_home: Path) -> None:
    assert "EDGEOPT_KEY_PASSPHRASE" in keys.refusal("init")
    assert "the passphrase is empty" in keys.refusal("init", EDGEOPT_KEY_PASSPHRASE="")
    assert not (edgeopt_home / "keys").exists()
    done = keys("init", "--no-passphrase")
    assert "lie open" in done.err
    assert done.code == 0


def test_every_role_is_rotated_and_the_passphrase_is_needed(keys: Keys) -> None:
    keys("init", **PASSPHRASE)
    assert "the passphrase does not open" in keys.refusal("rotate", "timestamp", EDGEOPT_KEY_PASSPHRASE="wrong")
    assert "locked with a passphrase" in keys.refusal("rotate", "timestamp")
    assert "no role 'mirror'" in keys.refusal("rotate", "mirror", **PASSPHRASE)
    for role in ("timestamp", "rollouts", "root"):
        assert len(keys.answer("rotate", role, **PASSPHRASE)["key"]) == 64
    assert keys.answer("refresh") == {"signed": []}
    assert "root" in keys.answer("refresh", "root", **PASSPHRASE)["signed"]


def test_two_people_sign_from_the_command_line(keys: Keys, tmp_path: Path) -> None:
    keys("init", "--no-passphrase")
    keys("new", tmp_path / "bob.key", "--no-passphrase")
    waits = keys("add", "root", tmp_path / "bob.key.pub", "--threshold", "2")
    assert waits.code == EXIT_WAITS == 3
    assert waits.err.startswith("edgeopt: it waits: root is signed by 1 of the 2 keys")
    assert "edgeopt keys import 2.root.json" in waits.err
    (waiting,) = keys.answer("status")["waiting"]
    assert "was not signed" in keys.refusal("sign", waiting, "--key", tmp_path / "bob.key")
    signed = keys.answer("sign", waiting, "--key", tmp_path / "bob.key", "--yes")
    assert any(line.startswith("root: 2 of") for line in signed["says"])
    assert keys.answer("import", waiting)["signed"] == ["root"]
    assert next(role for role in keys.answer("status")["roles"] if role["role"] == "root")["threshold"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status"], "has no signed tree"),
        (["refresh"], "has no signed tree"),
        (["rotate", "root", "--no-passphrase"], "has no signed tree"),
        (["add", "root"], "nothing is to be changed"),
        (["add", "root", "missing.pub"], "cannot read missing.pub"),
        (["sign", "missing.json", "--key", "missing.key", "--yes"], "cannot read missing.json"),
        (["import", "missing.json"], "cannot read missing.json"),
        (["new", "/proc/nowhere/a.key", "--no-passphrase"], "cannot write /proc/nowhere/a.key"),
        (["rotate"], "Missing argument"),
    ],
)
def test_each_mistake_is_one_clear_error(keys: Keys, words: list[str], said: str) -> None:
    assert said in keys.refusal(*words)


def test_a_tree_whose_root_expired_says_what_to_do(keys: Keys, edgeopt_home: Path) -> None:
    from edgeopt.signing.repository import Repository
    from edgeopt.signing.setup import initialise

    initialise(Repository(), passphrase=None, now=1_500_000_000)
    assert {role["state"] for role in keys.answer("status")["roles"]} == {"expired", "renewed"}
    assert "edgeopt keys refresh root" in keys.refusal("refresh")
    keys.answer("refresh", "root", "targets")
    assert {role["state"] for role in keys.answer("status")["roles"]} == {"good"}


def test_a_damaged_tree_is_one_clear_error(keys: Keys, edgeopt_home: Path) -> None:
    keys("init", "--no-passphrase")
    (edgeopt_home / "releases/metadata/timestamp.json").write_text("{")
    assert "timestamp.json is not signed metadata" in keys.refusal("status")
