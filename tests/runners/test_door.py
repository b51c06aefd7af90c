"""The forced command: what it takes for an order of the runner, and what it refuses."""

from __future__ import annotations

import shlex
import zlib
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.device import Device
from edgeopt.remote import loader
from edgeopt.remote.bundle import Bundle
from edgeopt_runner import door
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import verbs
from support.pull_tree import PullTree

DIGEST = "ab" * 32


def test_what_hosts_send_is_understood(tmp_path: Path) -> None:
    placed = loader.Placed("/usr/bin/python3", "3.8.1", "/home/x y/edgeopt_runner.pyz", "/home/x y", "", 0.0)
    receive = placed.command("receive", "--root", placed.root, "--sha256", DIGEST, "--size", "77")
    assert door.read(receive) == door.Asked("receive", DIGEST, 77)
    assert door.read(placed.command("send", "--root", "/etc", "--sha256", DIGEST)) == door.Asked("send", DIGEST, 0)
    assert door.read("serve") == door.Asked("serve", "", 0)
    (tmp_path / "bundle").write_bytes(b"12345")
    bundle = Bundle(tmp_path / "bundle", DIGEST, "cd" * 32)
    command = loader._command(Device("board", "ssh", root="~/.edgeopt"), bundle)
    asked = door.read(command)
    assert (asked.action, asked.sha256) == ("load", DIGEST)
    assert asked.size > 0


def test_a_runner_comes_as_it_is_or_compressed_and_never_larger_than_signed() -> None:
    runner = b"#!/usr/bin/env python3\n" + b"x" * 5000
    assert door._unpacked(runner, len(runner)) == runner
    assert door._unpacked(zlib.compress(runner), len(runner)) == runner
    assert len(door._unpacked(zlib.compress(b"\0" * (64 << 20)), 1000)) == 1001
    assert door._unpacked(b"garbage", 1000) == b""


@pytest.mark.parametrize(
    "command",
    [
        "",
        "sh",
        "exec /bin/sh",
        "serve; id",
        "serve --root / --evil x",
        "python3 -c 'import os' serve",
        "exec /bin/sh -c 'id' edgeopt",
        "receive --sha256 ../../etc/passwd --size 1",
        f"receive --sha256 {DIGEST} --size -1",
        f"receive --sha256 {DIGEST} --size 9999999999999999",
        f"receive --sha256 {DIGEST}",
        "send",
        "internal-sftp",
        "scp -t /etc",
        "'",
        "x" * 70000,
        "supervise --root / --job x",
        "work --root / --job x",
    ],
)
def test_everything_else_is_refused(command: str) -> None:
    with pytest.raises(Refusal) as caught:
        door.read(command)
    assert caught.value.code in ("restricted", "bad_request")


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        ("enrol", {"root": {}, "replace": True}),
        ("clean", {}),
        ("agent", {"settings": {"url": "http://evil"}}),
        ("restrict", {"public_key": "ssh-ed25519 AAAA"}),
        ("submit", {"job": {"kind": "provision"}}),
        ("submit", {"job": {"kind": "update", "insecure_unsigned": True}}),
        ("submit", {"job": "provision"}),
        ("preflight", {"insecure_unsigned": True}),
    ],
)
def test_requests_that_need_more_trust_are_refused_through_the_door_and_only_there(
    verb: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    door.check_request("", verb, params)
    monkeypatch.setenv("EDGEOPT_DOOR", "1")
    with pytest.raises(Refusal, match="may only talk to the runner"):
        door.check_request("", verb, params)
    for allowed in ("hello", "trust", "releases", "agent", "enrol"):
        door.check_request("", allowed, {})


@pytest.mark.parametrize("kind", ["return", "rollback"])
def test_an_enrolled_board_goes_back_by_what_is_signed_and_not_on_the_word_of_a_restricted_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    root = str(tmp_path / "root")
    monkeypatch.setenv("EDGEOPT_DOOR", "1")
    door.check_request(root, "submit", {"job": {"kind": kind}})
    verbs.enrol(root, {"root": PullTree(tmp_path / "tree").first_root})
    with pytest.raises(Refusal, match="the way back") as caught:
        door.check_request(root, "submit", {"job": {"kind": kind}})
    assert "edgeopt fleet rollback" in caught.value.remedy
    for allowed in ("update", "recheck", "rebuild"):
        door.check_request(root, "submit", {"job": {"kind": allowed}})


def test_a_line_is_added_once_and_other_keys_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "root"
    (root / "runner/current").mkdir(parents=True)
    (root / "runner/current/edgeopt_runner.pyz").write_bytes(b"runner")
    (tmp_path / ".ssh").mkdir()
    keys = tmp_path / ".ssh/authorized_keys"
    keys.write_text("# mine\nssh-ed25519 AAAAother me@home\n")
    for _ in range(2):
        answer = door.restrict(str(root), "ssh-ed25519 AAAAC3Nz edgeopt")
        lines = keys.read_text().splitlines()
        assert lines[:2] == ["# mine", "ssh-ed25519 AAAAother me@home"]
        assert len(lines) == 3
        assert answer["others"] == 1
    options, kind, key, _ = shlex.split(lines[2])[0], *lines[2].rsplit(" ", 3)[1:]
    assert options.startswith("restrict,command=")
    assert f"door --root {root}" in options
    assert (kind, key) == ("ssh-ed25519", "AAAAC3Nz")
    assert keys.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("key", ["", "ssh-ed25519", 'ssh-ed25519 AAAA"\nssh-rsa BBBB', "evil AAAA", "ssh-ed25519 ***"])
def test_what_is_no_public_key_is_refused(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Refusal):
        door.restrict(str(tmp_path), key)
    assert not (tmp_path / ".ssh").exists()
