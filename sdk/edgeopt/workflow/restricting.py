"""`device restrict`: a key of its own for a board, which may talk to the runner there and to nothing else."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from edgeopt import home
from edgeopt.core.device import Device
from edgeopt.errors import DeviceError, EdgeoptError, ProtocolError, UsageError
from edgeopt.remote.client import connect
from edgeopt.remote.untrusted import field, one_line
from edgeopt.workflow.devices import find_device
from edgeopt.workflow.workspace import Workspace

_SUM, _RESULT = "echo $((600001 * 7))", b"4200007"
"""A command that only a shell can do, and what it prints then; the refusal repeats the command."""
_READ_BYTES = 4096
_SECONDS = 30.0


@dataclass(frozen=True)
class Restricted:
    """What was set up.

    Attributes:
        device: The board, as it is reached from now on.
        key: The private key.
        path: The file on the board that the key was written to.
        others: How many other keys may still log in there.
    """

    device: Device
    key: Path
    path: str
    others: int


def restrict_device(name: str, workspace: Workspace, *, key: Path | None = None) -> Restricted:
    """Write a key behind a forced command to a board, prove it, and use it from now on.

    Args:
        name: The device, reachable with a login that has a shell.
        workspace: Where its inventory is.
        key: A private key whose ``.pub`` is beside it; by default one is made in edgeopt's home.

    Raises:
        UsageError: The device is this machine, or the key cannot be used.
        DeviceError: The board cannot be reached, or the new key does not do what it must; then nothing of the
            inventory is changed.
    """
    device = find_device(name, workspace)
    if device.transport == "local":
        raise UsageError("local is this machine: nobody logs in.", remedy="Name a device of edgeopt device list.")
    private = key.expanduser().absolute() if key is not None else _own_key(device.name)
    public = _public(private)
    with connect(device) as connection:
        if connection.hello.get("restricted"):
            raise UsageError(f"{name} is restricted already.", remedy="To change its key, log in with another one.")
        answer = connection.request("restrict", public_key=public)
        path = one_line(field(answer, "path", str, f"{name}: restrict"))
        others = int(field(answer, "others", int, f"{name}: restrict"))
    narrow = dataclasses.replace(device, identity_file=str(private), python=None)
    _prove(narrow)
    workspace.inventory.add(narrow)
    return Restricted(narrow, private, path, max(0, others))


def _own_key(name: str) -> Path:
    """The key for a board, made where there is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = home.home() / "ssh" / f"{name}_ed25519"
    if path.exists():
        return path
    made = Ed25519PrivateKey.generate()
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(private)
    path.with_name(f"{path.name}.pub").write_bytes(public + b" edgeopt\n")
    return path


def _public(private: Path) -> str:
    path = private.with_name(f"{private.name}.pub")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"cannot read {path}.", remedy=f"Make it: ssh-keygen -y -f {private} > {path}") from None


def _prove(device: Device) -> None:
    """Let only a key pass that reaches the runner and no shell.

    Raises:
        DeviceError: It does not, which names what it did.
    """
    try:
        with connect(device) as connection:
            restricted = connection.hello.get("restricted") is True
    except EdgeoptError as error:
        raise ProtocolError(
            f"{device.name}: the new key does not reach the runner: {error.message}",
            remedy="Is authorized_keys elsewhere there (AuthorizedKeysFile of sshd_config)? The old key still works.",
        ) from None
    if not restricted or _has_shell(device):
        raise ProtocolError(
            f"{device.name}: the new key gets a shell.",
            remedy="The board's sshd finds the key in another line too: take that away. The inventory is as before.",
        )


def _has_shell(device: Device) -> bool:
    """Whether a command that is not of the runner is run."""
    from edgeopt.remote.known_hosts import KnownHosts
    from edgeopt.remote.ssh import SshLink

    said = b""
    link = SshLink(device, known_hosts=KnownHosts(None))
    try:
        with link.guard("trying a shell", _SECONDS):
            channel = link.open(_SUM)
            while (chunk := channel.read(_READ_BYTES)) and len(said) < _READ_BYTES:
                said += chunk
            channel.close()
    except DeviceError:
        return False
    finally:
        link.close()
    return _RESULT in said
