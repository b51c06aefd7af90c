"""What every way of reaching a device looks like: a link that runs commands and gives their stdin and stdout.

One interface for child processes and SSH, so that everything above (bootstrap, session, push) has one code path.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

STALL_SECONDS = 15.0
"""A call ends when no byte moved for this long; SSH pings keep a slow but living device from looking dead."""


class Channel(Protocol):
    """One running command of the device. Every method is to be called inside `Link.guard`."""

    def write(self, data: bytes | memoryview) -> None:
        """Send all of `data` to the command's stdin."""

    def read(self, count: int) -> bytes:
        """Between 1 and `count` bytes of stdout; ``b""`` at its end."""

    def close_stdin(self) -> None:
        """End the command's stdin."""

    @property
    def stderr_tail(self) -> str:
        """The last of what the command wrote to stderr."""

    def close(self) -> None:
        """Let go of the command; never raises."""


class Link(Protocol):
    """One device, reachable until closed or lost."""

    @property
    def name(self) -> str:
        """The device's name, for messages."""

    def open(self, command: str) -> Channel:
        """Run `command` in the login's shell. To be called inside `guard`."""

    def guard(self, doing: str, deadline_seconds: float) -> AbstractContextManager[None]:
        """Bound everything in the block, and turn what the transport raises into our errors.

        Args:
            doing: What is being done, for messages: ``"probing"``.
            deadline_seconds: Total time allowed. A silent link ends earlier.

        Raises:
            DeadlineError: The deadline passed or nothing moved; the link is shut down.
            LinkLostError: The link went away.
        """

    def close(self) -> None:
        """End the connection; never raises."""
