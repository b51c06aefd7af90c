"""The nursery's own process: loads libraries, forks on request, tells how children end.

When the owner is gone, its line ends, and the children are taken along.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.child.job import HEAVY, LOG, NEEDED, ORDER, run_job

_PATH_BYTES = 4096


@dataclass(frozen=True)
class _Fork:
    line: socket.socket
    folder: Path
    function: str


class _Nursery:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._forks: dict[int, _Fork] = {}
        self._needed: dict[str, list[str]] = {}
        self._ended, self._wakes = os.pipe()
        for descriptor in (self._ended, self._wakes):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Until the owner is gone."""
        while True:
            ready, _, _ = select.select([self._line.fileno(), self._ended], [], [])
            if self._ended in ready:
                os.read(self._ended, 4096)
                self._reap()
            if self._line.fileno() in ready:
                said, descriptors, _, _ = socket.recv_fds(self._line, _PATH_BYTES, 1)
                if not said:
                    break
                self._fork(Path(os.fsdecode(said)), socket.socket(fileno=descriptors[0]))
        for pid in self._forks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _fork(self, folder: Path, line: socket.socket) -> None:
        """Start a child; it never returns from here."""
        order: dict[str, Any] = json.loads((folder / ORDER).read_text())
        needed = self._needed.get(order["function"], [])
        for name in needed:
            importlib.import_module(name)
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (line, self._line, *(fork.line for fork in self._forks.values())):
                other.close()
            _settle(folder, order)
            sys.exit(run_job(folder))
        self._forks[pid] = _Fork(line, folder, order["function"])
        line.send(str(pid).encode())

    def _reap(self) -> None:
        """Tell of the children that have ended, and remember what they needed."""
        for pid in list(self._forks):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                fork = self._forks.pop(pid)
                with contextlib.suppress(OSError, ValueError):
                    found = json.loads((fork.folder / NEEDED).read_text())
                    known = self._needed.setdefault(fork.function, [])
                    known += [name for name in HEAVY if name in found and name not in known]
                with contextlib.suppress(OSError), fork.line:
                    fork.line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _settle(folder: Path, order: dict[str, Any]) -> None:
    """Be a process of its own, with its own output, and where and with what variables and import path it is to be."""
    os.setsid()
    os.chdir(order["folder"])
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:] = order["paths"]


if __name__ == "__main__":
    _Nursery(socket.socket(fileno=int(sys.argv[1]))).serve()
