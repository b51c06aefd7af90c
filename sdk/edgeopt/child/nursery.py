"""A process that has the heavy libraries loaded and forks a child for each call: importing torch takes 3 s of CPU.

It loads what an earlier child of the same function turned out to need, and nothing before. Each child is a process of
its own, so that a crash stays its own. `multiprocessing`'s fork server was the alternative; it runs the user's main
script again in the children.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_READ_AT_IMPORT = ("CUDA", "KMP_", "LD_", "MKL_", "OMP_", "OPENBLAS_", "ORT_", "TORCH")
"""Beginnings of variables that libraries read when they are loaded: for other values there is another nursery."""

_MESSAGE_BYTES = 64
_KILLED = -int(signal.SIGKILL)
_GONE_SECONDS = 5.0


class Child:
    """A child of a nursery, with what `subprocess.Popen` has of it.

    Attributes:
        pid: It leads a process group of that number.
    """

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid, self._line = pid, line
        self._returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or minus the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        if self._returncode is None:
            self._line.settimeout(None if timeout is None else max(timeout, 1e-3))
            try:
                said = self._line.recv(_MESSAGE_BYTES)
            except TimeoutError:
                raise subprocess.TimeoutExpired("child", timeout or 0.0) from None
            self._returncode = int(said) if said else _KILLED  # the nursery is gone, and its children with it
            self._line.close()
        return self._returncode


class Nursery:
    """A nursery of this process.

    Args:
        environment: Its variables.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._owner = os.getpid()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgeopt.child.forks", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether it runs, and is this process's own."""
        return self._owner == os.getpid() and self._process.poll() is None

    def start(self, folder: Path) -> Child:
        """Fork a child for the job in `folder`.

        Raises:
            OSError: The nursery is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._line, [os.fsencode(folder)], [theirs.fileno()])
        said = ours.recv(_MESSAGE_BYTES)
        if not said:
            ours.close()
            raise OSError("the nursery ended")
        return Child(int(said), ours)

    def close(self) -> None:
        """End it and all its children."""
        atexit.unregister(self.close)
        self._line.close()
        if self._owner == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GONE_SECONDS)


_known: dict[tuple[tuple[str, str], ...], Nursery] = {}
_making = threading.Lock()


def nursery(environment: Mapping[str, str]) -> Nursery:
    """The nursery of this process for these variables; started where there is none.

    Raises:
        OSError: It cannot be started.
    """
    key = tuple(sorted(pair for pair in environment.items() if pair[0].startswith(_READ_AT_IMPORT)))
    with _making:
        if key not in _known or not _known[key].alive:
            _known[key] = Nursery(environment)
        return _known[key]
