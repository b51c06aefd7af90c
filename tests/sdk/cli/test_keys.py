"""`edgeopt keys` as a user types it: what it prints, what it asks for, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PASSPHRASE = {"EDGEOPT_KEY_PASSPHRASE": "correct horse"}


def keys(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with nobody at the terminal."""
    command = [sys.executable, "-m", "edgeopt.cli.main", "keys", *map(str, words)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def answered(*words: str | Path, **environment: str) -> dict[str, Any]:
    done = keys(*words, "--json", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*words: str | Path, **environment: str) -> str:
    """The message of a command that must fail: one line, with a remedy, exit code 2."""
    done = keys(*words, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    said, remedy = done.stderr.strip().splitlines()[-2:]
    assert said.startswith("edgeopt: ")
    assert remedy.startswith("  what to do: ")
    assert "Traceback" not in done.stderr
    return said + remedy


def test_one_command_makes_a_usable_set(edgeopt_home: Path) -> None:
    done = keys("init", **PASSPHRASE)
    assert done.returncode == 0, done.stderr
    assert f"Move {edgeopt_home}/keys/recovery to a medium" in done.stdout
    assert "there are keys already" in refused("init", **PASSPHRASE)
    found = answered("status")
    assert [role["state"] for role in found["roles"]] == ["good"] * 5
    assert found["waiting"] == []
    table = keys("status").stdout
    assert all(name in table for name in ("root", "targets", "snapshot", "timestamp", "rollouts"))
    everything = done.stdout + done.stderr + table
    assert "PRIVATE" not in everything
    assert "correct horse" not in everything


def test_nothing_is_made_without_a_passphrase_or_a_word(edgeopt_home: Path) -> None:
    assert "EDGEOPT_KEY_PASSPHRASE" in refused("init")
    assert "the passphrase is empty" in refused("init", EDGEOPT_KEY_PASSPHRASE="")
    assert not (edgeopt_home / "keys").exists()
    done = keys("init", "--no-passphrase")
    assert "lie open" in done.stderr
    assert done.returncode == 0


def test_every_role_is_rotated_and_the_passphrase_is_needed() -> None:
    keys("init", **PASSPHRASE)
    assert "the passphrase does not open" in refused("rotate", "timestamp", EDGEOPT_KEY_PASSPHRASE="wrong")
    assert "locked with a passphrase" in refused("rotate", "timestamp")
    assert "no role 'mirror'" in refused("rotate", "mirror", **PASSPHRASE)
    for role in ("timestamp", "rollouts", "root"):
        assert len(answered("rotate", role, **PASSPHRASE)["key"]) == 64
    assert answered("refresh") == {"signed": []}
    assert "root" in answered("refresh", "root", **PASSPHRASE)["signed"]


def test_two_people_sign_from_the_command_line(tmp_path: Path) -> None:
    keys("init", "--no-passphrase")
    keys("new", tmp_path / "bob.key", "--no-passphrase")
    said = refused("add", "root", tmp_path / "bob.key.pub", "--threshold", "2")
    assert "root is signed by 1 of the 2 keys" in said
    (waiting,) = answered("status")["waiting"]
    assert "was not signed" in refused("sign", waiting, "--key", tmp_path / "bob.key")
    signed = answered("sign", waiting, "--key", tmp_path / "bob.key", "--yes")
    assert any(line.startswith("root: 2 of") for line in signed["says"])
    assert answered("import", waiting)["signed"] == ["root"]
    assert next(role for role in answered("status")["roles"] if role["role"] == "root")["threshold"] == 2


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
def test_each_mistake_is_one_clear_error(words: list[str], said: str) -> None:
    assert said in refused(*words)


def test_a_tree_whose_root_expired_says_what_to_do(edgeopt_home: Path) -> None:
    from edgeopt.signing.repository import Repository
    from edgeopt.signing.setup import initialise

    initialise(Repository(), passphrase=None, now=1_500_000_000)
    assert {role["state"] for role in answered("status")["roles"]} == {"expired", "renewed"}
    assert "edgeopt keys refresh root" in refused("refresh")
    answered("refresh", "root", "targets")
    assert {role["state"] for role in answered("status")["roles"]} == {"good"}


def test_a_damaged_tree_is_one_clear_error(edgeopt_home: Path) -> None:
    keys("init", "--no-passphrase")
    (edgeopt_home / "releases/metadata/timestamp.json").write_text("{")
    assert "timestamp.json is not signed metadata" in refused("status")
