"""A private OpenSSH server on loopback: own keys and home, and the settings that go wrong in the field."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.device import Device

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


class Sshd:
    """One server; `folder` holds its keys, configuration, log and the home of its sessions.

    Args:
        folder: Empty folder of this server.
        sftp: Whether it has the sftp subsystem.
        noise: What every session prints on stdout before its command runs, as a chatty `.bashrc` does.
        path: `PATH` of the sessions; the server's own by default.
        environment: More variables of the sessions.
        options: Further lines of sshd_config.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sftp: bool = True,
        noise: str = "",
        path: str = "",
        environment: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(parents=True)
        self.client_key = make_key(folder / "client_key")
        self.host_key = make_key(folder / "host_key")
        self.authorize(self.client_key)
        self.host, self.port, self.user = "127.0.0.1", _free_port(), getpass.getuser()
        variables = {"HOME": str(self.home), **({"PATH": path} if path else {}), **(environment or {})}
        self._lines = [
            *(["Subsystem sftp internal-sftp"] if sftp else []),
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in variables.items()),
            *options,
            *([self._noisy(noise)] if noise else []),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def _noisy(self, noise: str) -> str:
        script = self.folder / "login.sh"
        script.write_text(f'#!/bin/sh\ncat {self.folder}/noise\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
        script.chmod(0o755)
        (self.folder / "noise").write_text(noise)
        return f"ForceCommand {script}"

    def authorize(self, *keys: Path) -> None:
        """Let exactly these keys in."""
        lines = [Path(f"{key}.pub").read_text() for key in keys]
        (self.folder / "authorized_keys").write_text("".join(lines))

    @property
    def log(self) -> str:
        """What the server logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start listening."""
        config = self.folder / "sshd_config"
        config.write_text("\n".join([*self._settings(), *self._lines]) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            command = [SSHD, "-D", "-e", "-f", str(config)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"sshd did not start: {self.log}")

    def _settings(self) -> list[str]:
        return [
            f"ListenAddress {self.host}",
            f"Port {self.port}",
            f"HostKey {self.host_key}",
            "PidFile none",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "StrictModes no",
            "UseDNS no",
            "LogLevel VERBOSE",
            "MaxStartups 100:30:200",
        ]

    def stop(self) -> None:
        """Stop listening; open connections live on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def unplug(self) -> None:
        """Stop listening, and cut every open connection off, as a board does that loses its power."""
        if self._process is not None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            sessions = [int(pid) for pid in children.read_text().split()]
            self.stop()
            for pid in sessions:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def replace_host_key(self) -> None:
        """Come back with another host key, as a re-imaged board does."""
        self.stop()
        self.host_key = make_key(self.folder / "host_key_2")
        self.start()

    def device(self, name: str = "board", **changes: Any) -> Device:
        """The device that this server stands for."""
        values: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "identity_file": str(self.client_key),
            "root": str(self.home / ".edgeopt"),
        }
        return Device(name=name, transport="ssh", **{**values, **changes})


@contextlib.contextmanager
def running_sshd(folder: Path, **settings: Any) -> Iterator[Sshd]:
    """A server that listens inside the block. Skips the test, with the reason, where there is no sshd."""
    if not Path(SSHD).exists():
        pytest.skip(f"no OpenSSH server at {SSHD}")
    server = Sshd(folder, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def make_key(path: Path) -> Path:
    """A new ed25519 key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
