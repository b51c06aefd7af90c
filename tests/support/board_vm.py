"""A booted arm64 machine behind real SSH: own kernel, device tree, page size, memory; its power can be cut."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.board_builds import kit, need, persona, vm_files


@dataclass(frozen=True)
class Vm:
    """One machine. Its disk is kept while it is off.

    Attributes:
        folder: Its disk, keys and console.
        board: What it looks like, a name of `make_personas.py`.
        files: Of `vm_files`.
        port: Of its SSH server, on loopback.
        cpu: The emulator's name for its processor.
        memory_mib: How much it has.
    """

    folder: Path
    board: str
    files: Path
    port: int
    cpu: str
    memory_mib: int

    @property
    def address(self) -> str:
        """For ``edgeopt device add``."""
        return f"root@127.0.0.1:{self.port}"

    @property
    def client_key(self) -> Path:
        """The key that it lets in."""
        return self.folder / "client_key"

    @property
    def fingerprint(self) -> str:
        """Of its host key."""
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(self.folder / self.board / "host_key.pub")],
            capture_output=True,
            text=True,
            check=True,
        )
        return shown.stdout.split()[1]

    def boot(self) -> None:
        """Switch it on and wait for its SSH server."""
        options = ["--cpu", self.cpu, "--mem", self.memory_mib, "--persona", persona(self.board), "--wait", 240]
        kit("boot_vm.sh", "up", self.files, self.folder, self.board, self.port, *map(str, options))

    def cut_power(self) -> None:
        """Off at once: what it had not written to its disk is lost. Nothing where it is off already."""
        pid = self.folder / self.board / "pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            number = int(pid.read_text())
            if str(self.folder).encode() in Path(f"/proc/{number}/cmdline").read_bytes():
                os.kill(number, signal.SIGKILL)
            while Path(f"/proc/{number}").exists():
                time.sleep(0.05)
            pid.unlink()

    def words(self, command: str) -> list[str]:
        """What runs a command in it, past edgeopt."""
        words = ["ssh", "-q", "-i", str(self.client_key), "-o", f"UserKnownHostsFile={self.folder}/known_hosts"]
        return [*words, "-o", "BatchMode=yes", "-p", str(self.port), "root@127.0.0.1", command]

    def run(self, command: str, data: bytes = b"") -> str:
        """Output of a command in it that reads these bytes."""
        return subprocess.run(
            self.words(command), input=data, stdout=subprocess.PIPE, timeout=120, check=True
        ).stdout.decode()


@contextlib.contextmanager
def running_vm(folder: Path, board: str, *, cpu: str, memory_mib: int) -> Iterator[Vm]:
    """A machine that is on inside the block. Skips the test, with the reason, where there is no emulator."""
    need("qemu-system-aarch64", "qemu-img", "fdtput", "cpio", "ssh", "ssh-keygen")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    vm = Vm(folder, board, vm_files(), port, cpu, memory_mib)
    try:
        vm.boot()
        yield vm
    finally:
        vm.cut_power()
