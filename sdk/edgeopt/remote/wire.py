"""A socket that counts what gets through, which is what the watchdog judges a link by."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

_SIOCOUTQ = 0x5411
_ACKNOWLEDGED_STEP_BYTES = 4096
"""Less than this counts as nothing: pings alone would be acknowledged by a proxy that forwards none of them."""


class MeteredSocket:
    """Passes everything through to a socket or a channel of another transport, and counts.

    Args:
        stream: What carries the bytes.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._received = 0
        self._sent = 0

    def send(self, data: bytes) -> int:
        """Send some of `data`."""
        count: int = self._stream.send(data)
        self._sent += count
        return count

    def recv(self, count: int) -> bytes:
        """Receive up to `count` bytes."""
        data: bytes = self._stream.recv(count)
        self._received += len(data)
        return data

    def close(self) -> None:
        """Close the stream; on a channel of a transport that is gone this would raise, in the library's own thread."""
        with contextlib.suppress(Exception):
            self._stream.close()

    def progress(self, unacknowledged: int | None) -> int:
        """A number that grows as bytes get through.

        Args:
            unacknowledged: Bytes sent that the peer has not acknowledged; ``None`` where that cannot be told.
        """
        acknowledged = 0 if unacknowledged is None else max(0, self._sent - unacknowledged)
        return self._received + acknowledged // _ACKNOWLEDGED_STEP_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def unacknowledged_bytes(stream: socket.socket | None) -> int | None:
    """Bytes in a TCP socket's send queue that the peer has not acknowledged; ``None`` where the system cannot tell."""
    if stream is None or not sys.platform.startswith("linux"):
        return None
    import fcntl
    import struct

    with contextlib.suppress(OSError, ValueError):
        (count,) = struct.unpack("i", fcntl.ioctl(stream.fileno(), _SIOCOUTQ, b"\0\0\0\0"))
        return int(count)
    return None


def break_socket(stream: socket.socket | None) -> None:
    """Shut a socket down both ways; whoever waits on it wakes up."""
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
