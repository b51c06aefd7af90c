"""The link to a device over SSH: one transport, one channel a command."""

from __future__ import annotations

import contextlib
import socket
from contextlib import AbstractContextManager

import paramiko

from edgeopt.core.device import Device
from edgeopt.errors import LinkLostError
from edgeopt.remote.dial import LOGIN_SECONDS, Dialer
from edgeopt.remote.known_hosts import KnownHosts
from edgeopt.remote.link import STALL_SECONDS
from edgeopt.remote.ssh_config import route

_STDERR_BYTES = 64 << 10
_POLL_SECONDS = 0.5


class SshChannel:
    """One command over SSH."""

    def __init__(self, channel: paramiko.Channel, device: str) -> None:
        self._channel, self._device = channel, device
        self._stderr = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """Send all of `data` to the command's stdin."""
        self._channel.settimeout(None)
        self._channel.sendall(data)  # type: ignore[arg-type]

    def read(self, count: int) -> bytes:
        """Between 1 and `count` bytes of stdout; ``b""`` at its end.

        Raises:
            LinkLostError: The connection ended, not the command.
        """
        self._channel.settimeout(_POLL_SECONDS)  # stderr has to be drained too, or its window fills and all stops
        while True:
            self._drain_stderr()
            try:
                data = self._channel.recv(count)
            except TimeoutError:
                continue
            if not data and not self._channel.eof_received:
                raise LinkLostError(f"{self._device}: the connection ended in the middle of a command.")
            return data

    def _drain_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            chunk = self._channel.recv_stderr(65536)
            if not chunk:
                return
            self._stderr += chunk
            del self._stderr[:-_STDERR_BYTES]

    def close_stdin(self) -> None:
        """End the command's stdin."""
        with contextlib.suppress(EOFError, socket.error):
            self._channel.shutdown_write()

    @property
    def stderr_tail(self) -> str:
        """The last of what the command wrote to stderr."""
        self._drain_stderr()
        return self._stderr.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Let go of the command."""
        with contextlib.suppress(Exception):
            self._channel.close()


class SshLink:
    """A connected device.

    Args:
        device: Where.
        known_hosts: The pinned keys.
        stall_seconds: Longest silence that a call bears.

    Raises:
        ConnectError: It cannot be reached.
        UnknownHostKeyError: Its host key is not pinned.
        ChangedHostKeyError: Its host key is another than the pinned one.
        AuthenticationError: It refused the login.
        DeadlineError: It fell silent on the way.
    """

    def __init__(
        self, device: Device, *, known_hosts: KnownHosts | None = None, stall_seconds: float = STALL_SECONDS
    ) -> None:
        self.name = device.name
        self._dialer = Dialer(device.name, known_hosts or KnownHosts(), stall_seconds)
        try:
            for hop in route(device):
                self._transport = self._dialer.enter(hop)
        except BaseException:
            self._dialer.close()
            raise

    def open(self, command: str) -> SshChannel:
        """Run `command` in the login's shell. To be called inside `guard`."""
        channel = self._transport.open_session(timeout=LOGIN_SECONDS)
        channel.exec_command(command)
        return SshChannel(channel, self.name)

    def guard(self, doing: str, deadline_seconds: float) -> AbstractContextManager[None]:
        """See `edgeopt.remote.link.Link.guard`."""
        return self._dialer.guard(doing, deadline_seconds)

    def close(self) -> None:
        """End the connection."""
        self._dialer.close()
