"""The link to this machine: child processes in a session of their own."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

from edgeopt.remote.link import STALL_SECONDS
from edgeopt.remote.watchdog import guarded

_STDERR_CHUNKS = 16
_GRACE_SECONDS = 2.0


class LocalChannel:
    """A child process; what it detaches with `setsid` lives on."""

    def __init__(self, command: str) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
        )
        self._stderr: collections.deque[bytes] = collections.deque(maxlen=_STDERR_CHUNKS)
        self._drain = threading.Thread(target=self._keep_stderr, name="edgeopt-stderr", daemon=True)
        self._drain.start()

    def _keep_stderr(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._process.stderr.read(4096):
                self._stderr.append(chunk)

    def write(self, data: bytes | memoryview) -> None:
        """Send all of `data` to the child's stdin."""
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def read(self, count: int) -> bytes:
        """Between 1 and `count` bytes of stdout; ``b""`` at its end."""
        assert self._process.stdout is not None
        return os.read(self._process.stdout.fileno(), count)

    def close_stdin(self) -> None:
        """End the child's stdin."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    @property
    def stderr_tail(self) -> str:
        """The last of what the child wrote to stderr."""
        return b"".join(self._stderr).decode("utf-8", "replace").strip()

    def kill(self) -> None:
        """End the child and all it started in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End stdin, wait a moment, then kill."""
        with contextlib.suppress(OSError):
            self.close_stdin()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._drain.join(_GRACE_SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


class LocalLink:
    """This machine, through the same commands as a device over SSH."""

    def __init__(self, name: str = "local") -> None:
        self.name = name
        self._channels: list[LocalChannel] = []

    def open(self, command: str) -> LocalChannel:
        """Run `command` in a shell."""
        channel = LocalChannel(command)
        self._channels.append(channel)
        return channel

    def moved(self) -> None:
        """Silence means nothing on a pipe: only the deadline counts."""

    def shut_down(self) -> None:
        """Kill the children."""
        for channel in list(self._channels):
            channel.kill()

    @contextlib.contextmanager
    def guard(self, doing: str, deadline_seconds: float) -> Iterator[None]:
        """See `edgeopt.remote.link.Link.guard`."""
        where = f"{self.name}: {doing}"
        with guarded(self, where, deadline_seconds=deadline_seconds, stall_seconds=STALL_SECONDS):
            yield

    def close(self) -> None:
        """End all children."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
