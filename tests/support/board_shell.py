"""Devices without a kernel of their own, behind real SSH: another architecture's userland, or this machine with the
identity of a board and an old Python. They start at once; their memory and time mean nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.board_builds import KIT, emulator, need, persona
from support.sshd import Sshd, running_sshd


@contextlib.contextmanager
def running_userland(
    folder: Path, root: Path, architecture: str, *, cpu: str, board: str = "", path: str = ""
) -> Iterator[Sshd]:
    """A device whose sessions are of another architecture.

    Args:
        folder: Empty folder of the device.
        root: Its root folder, of `root_folder`.
        architecture: The emulator's name for it, ``arm`` or ``aarch64``.
        cpu: The emulator's name for its processor.
        board: Persona whose device tree it shows.
        path: `PATH` of its sessions; the usual one by default.
    """
    need("bwrap", "unshare")
    _require_private_binfmt()
    variables = {"DEVICE_ROOT": str(root), "DEVICE_QEMU": str(emulator(architecture)), "QEMU_CPU": cpu}
    variables |= {"DEVICE_PATH": path} if path else {}
    with _running(folder, "device_shell_qemu.sh", variables, board) as server:
        yield server


@contextlib.contextmanager
def running_look(folder: Path, board: str, *, path: str) -> Iterator[Sshd]:
    """This machine behind the identity of a board, with another `PATH`."""
    need("bwrap")
    with _running(folder, "device_shell_bwrap.sh", {"PATH": path}, board) as server:
        yield server


@contextlib.contextmanager
def _running(folder: Path, shell: str, variables: dict[str, str], board: str) -> Iterator[Sshd]:
    device = folder / "sshd"
    options = (f"ForceCommand {KIT / shell}",)
    variables = {"DEVICE_DIR": str(device), "EDGEOPT_LOCK": "/home/board.lock", **variables}
    with running_sshd(device, environment=variables, options=options) as server:
        if board:
            shutil.copytree(persona(board), device / "persona")
        try:
            yield server
        finally:
            _end_processes(device)


def _end_processes(device: Path) -> None:
    """End what outlived its session, as the jobs of a test that failed do."""
    mark = f"DEVICE_DIR={device}\0".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)


def _require_private_binfmt() -> None:
    """Skip where a user namespace has no binfmt_misc of its own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "binfmt_misc", "binfmt_misc"]
    done = subprocess.run([*command, "/proc/sys/fs/binfmt_misc"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Linux {os.uname().release} lends no binfmt_misc to a user namespace: {done.stderr.strip()}")
