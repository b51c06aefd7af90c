"""Threads that drain a worker's pipes: its event frames and its log, so that neither can block it or fill the disk."""

import os
import threading
import time
from typing import Any, BinaryIO, Callable, Dict, Optional

from edgeopt_runner.protocol import frames
from edgeopt_runner.results import one_line

LOG_HEAD_BYTES = 192 << 10
LOG_TAIL_BYTES = 64 << 10
_LAST_LINE_BYTES = 2000
_READ_BYTES = 65536


class EventPump(threading.Thread):
    """Reads the worker's frames.

    Args:
        descriptor: The read end; closed at the end.
        wake: Called after every event and at the end.

    Attributes:
        phase: The phase announced last, ``start`` before any.
        phase_since: Monotonic seconds of that.
        result: What the worker returned, or ``None``.
        ended: Whether the worker closed its end.
    """

    def __init__(self, descriptor: int, wake: Callable[[], None]) -> None:
        super(EventPump, self).__init__(daemon=True)
        self._descriptor = descriptor
        self._wake = wake
        self.phase = "start"
        self.phase_since = time.monotonic()
        self.result: Optional[Dict[str, Any]] = None
        self.ended = False

    def run(self) -> None:
        """Take events until the worker's end closes; what is not a frame is skipped."""
        reader = frames.FrameReader(lambda count: os.read(self._descriptor, count))
        while True:
            try:
                event = reader.next()
            except frames.FrameError:
                continue
            if event is None:
                break
            self._take(event)
            self._wake()
        self.ended = True
        os.close(self._descriptor)
        self._wake()

    def _take(self, event: Dict[str, Any]) -> None:
        if event.get("event") == "phase":
            self.phase, self.phase_since = one_line(str(event.get("phase")))[:40], time.monotonic()
        elif event.get("event") == "result" and isinstance(event.get("result"), dict):
            self.result = event["result"]


def _write(log: BinaryIO, data: bytes) -> None:
    """Write what the disk still takes: a worker must not block because its log cannot grow."""
    try:
        log.write(data)
    except OSError:
        pass


class LogPump(threading.Thread):
    """Keeps the beginning and the end of what a worker prints, and drops the middle.

    Args:
        descriptor: The read end; closed at the end.
        path: The log file; appended to.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        super(LogPump, self).__init__(daemon=True)
        self._descriptor = descriptor
        self._path = path
        self._tail = bytearray()
        self._dropped = 0
        self._last = b""

    def run(self) -> None:
        """Drain until the worker and all its children have closed their ends."""
        with open(self._path, "ab", buffering=0) as log:
            room = max(0, LOG_HEAD_BYTES - os.fstat(log.fileno()).st_size)
            for block in iter(lambda: os.read(self._descriptor, _READ_BYTES), b""):
                self._last = (self._last + block)[-_LAST_LINE_BYTES:]
                _write(log, block[:room])
                self._keep(block[room:])
                room = max(0, room - len(block))
            if self._dropped:
                _write(log, b"\n[... %d bytes left out ...]\n" % self._dropped)
            _write(log, bytes(self._tail))
        os.close(self._descriptor)

    def _keep(self, block: bytes) -> None:
        self._tail += block
        excess = max(0, len(self._tail) - LOG_TAIL_BYTES)
        self._dropped += excess
        del self._tail[:excess]

    @property
    def last_line(self) -> str:
        """The last line that is not blank."""
        lines = [line for line in self._last.decode("utf-8", "replace").splitlines() if line.strip()]
        return one_line(lines[-1]) if lines else ""
