"""A user's computer for tests: a home of its own, no keys, no agent; and pins for test servers."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import paramiko
import pytest

from edgeopt.remote.known_hosts import KnownHosts
from edgeopt.remote.ssh_config import known_hosts_name
from support.sshd import Sshd


def fresh_computer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point `HOME` and edgeopt's home into `folder`, take the agent away, and keep off the machine's own board lock."""
    home = folder / "computer"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("EDGEOPT_HOME", str(home / "edgeopt"))
    monkeypatch.setenv("EDGEOPT_LOCK", str(folder / "local.lock"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def pin(server: Sshd, *ports: int) -> None:
    """Pin a server's host key for its own port and for those of proxies before it."""
    kind, text = Path(f"{server.host_key}.pub").read_text().split()[:2]
    key = paramiko.PKey.from_type_string(kind, base64.b64decode(text))
    for port in ports or (server.port,):
        KnownHosts().pin(known_hosts_name(server.host, port), key)


def random_file(path: Path, size_bytes: int) -> tuple[Path, str]:
    """A file of random bytes and its SHA-256."""
    data = os.urandom(size_bytes)
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()
