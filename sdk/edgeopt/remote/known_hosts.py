"""Pinned host keys, in OpenSSH's known_hosts format in edgeopt's own home.

Separate from the user's known_hosts: accepting a key for a terminal must not open the way to pushing programs.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import paramiko

from edgeopt import home
from edgeopt.documents import write_atomically
from edgeopt.errors import ChangedHostKeyError, UnknownHostKeyError
from edgeopt.remote.lockfile import locked


def fingerprint(key: paramiko.PKey) -> str:
    """A key's fingerprint as OpenSSH prints it: ``SHA256:`` and 43 characters."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _key(line: str, name: str) -> paramiko.PKey | None:
    """The key in a line of known_hosts that is about `name`, else ``None``."""
    try:
        entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
    except (paramiko.hostkeys.InvalidHostKey, paramiko.SSHException):
        return None
    if entry is None or entry.key is None or not entry.hostnames:
        return None
    return entry.key if any(_is_name(pattern, name) for pattern in entry.hostnames) else None


def _is_name(pattern: str, name: str) -> bool:
    if not pattern.startswith("|1|"):
        return pattern == name
    try:
        return paramiko.HostKeys.hash_host(name, pattern) == pattern
    except (AssertionError, ValueError):
        return False


class KnownHosts:
    """The pinned keys.

    Args:
        path: The file; need not exist. By default ``known_hosts`` in edgeopt's home.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or home.home() / "known_hosts"

    def keys(self, name: str) -> tuple[paramiko.PKey, ...]:
        """The keys that are pinned for a server's name; hashed names are found too.

        Lines that are no pins (authorities, what does not parse) vouch for nothing, and a revoked key is no pin.
        """
        if not self.path.is_file():
            return ()
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        revoked = [_key(line.removeprefix("@revoked ").strip(), name) for line in lines if line.startswith("@revoked ")]
        pinned = [_key(line, name) for line in lines if not line.startswith("@")]
        return tuple(key for key in pinned if key is not None and key not in revoked)

    def plain(self) -> dict[str, str]:
        """Type and base64 of every key that is pinned for a name that is not hashed, by name; for comparing them."""
        if not self.path.is_file():
            return {}
        rows = [line.split() for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()]
        pins = [row for row in rows if len(row) >= 3 and row[0][0] not in "@#|"]
        return {name: f"{row[1]} {row[2]}" for row in pins for name in row[0].split(",")}

    def verify(self, name: str, key: paramiko.PKey, *, device: str, address: str) -> None:
        """Let a server pass only with a pinned key.

        Args:
            name: The server's name in the file.
            key: What it showed.
            device: The device's name, for the message.
            address: ``user@host[:port]``, for the message.

        Raises:
            UnknownHostKeyError: Nothing is pinned for it.
            ChangedHostKeyError: Something else is pinned for it.
        """
        pinned, shown = self.keys(name), fingerprint(key)
        if not pinned:
            raise UnknownHostKeyError(
                f"{device}: the host key of {name} is not pinned yet; the server shows {shown} ({key.get_name()}).",
                remedy=f"Compare it with the device's own, then: edgeopt device add {device} {address} "
                f"--fingerprint {shown}",
            )
        if all(key != known for known in pinned):
            known = ", ".join(fingerprint(known) for known in pinned)
            raise ChangedHostKeyError(
                f"{device}: the host key of {name} has changed: pinned {known}, shown {shown}. Nothing was sent.",
                remedy=f"If the device was reinstalled: edgeopt device trust {device} --replace. If not, do not go on.",
            )

    def pin(self, name: str, key: paramiko.PKey) -> None:
        """Pin `key` for a server's name, in place of every key pinned before."""
        with locked(self.path):
            lines = self.path.read_text().splitlines() if self.path.is_file() else []
            kept = [line for line in lines if name not in line.partition(" ")[0].split(",")]
            kept.append(f"{name} {key.get_name()} {key.get_base64()}")
            write_atomically(self.path, ("\n".join(kept) + "\n").encode())


def user_known_hosts() -> KnownHosts:
    """The user's own file: believed when a device is added, and only then."""
    return KnownHosts(Path.home() / ".ssh" / "known_hosts")
