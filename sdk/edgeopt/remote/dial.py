"""From nothing to a verified, authenticated SSH transport, through jump hosts where there are any.

The socket is ours, so that a watchdog can break it; the host key of every hop is checked before anything is offered.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
from collections.abc import Iterator

import paramiko

from edgeopt.remote.known_hosts import KnownHosts
from edgeopt.remote.link import STALL_SECONDS
from edgeopt.remote.ssh_auth import authenticate, within
from edgeopt.remote.ssh_config import Hop
from edgeopt.remote.watchdog import guarded
from edgeopt.remote.wire import MeteredSocket, break_socket, unacknowledged_bytes

CONNECT_SECONDS = 10.0
LOGIN_SECONDS = 60.0
_PINGS = 4
_WINDOW_BYTES = 4 << 20
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


class Dialer:
    """The transports to one device, hop by hop, and the wire that carries them.

    Args:
        device: The device's name, for messages.
        known_hosts: The pinned keys.
        stall_seconds: Longest silence allowed.
    """

    def __init__(self, device: str, known_hosts: KnownHosts, stall_seconds: float = STALL_SECONDS) -> None:
        self.device, self.known_hosts, self.stall_seconds = device, known_hosts, stall_seconds
        self.transports: list[paramiko.Transport] = []
        self._socket: socket.socket | None = None
        self._meter: MeteredSocket | None = None
        self._proxy: subprocess.Popen[bytes] | None = None

    def moved(self) -> int | None:
        """Bytes that got through so far: received from the last hop, and acknowledged by the first."""
        if self._meter is None:
            return 0
        return self._meter.progress(unacknowledged_bytes(self._socket) if len(self.transports) < 2 else None)

    def shut_down(self) -> None:
        """Break the socket under all transports."""
        break_socket(self._socket)

    @contextlib.contextmanager
    def guard(self, doing: str, deadline_seconds: float) -> Iterator[None]:
        """See `edgeopt.remote.link.Link.guard`; while no login has succeeded, failures are those of connecting."""
        connected = bool(self.transports) and self.transports[-1].is_authenticated()
        where = f"{self.device}: {doing}"
        with guarded(
            self, where, deadline_seconds=deadline_seconds, stall_seconds=self.stall_seconds, connected=connected
        ):
            yield

    def approach(self, hop: Hop) -> paramiko.Transport:
        """Exchange keys with a hop; nothing that names us is sent.

        Raises:
            ConnectError: No route, nothing listens, or no SSH there.
            DeadlineError: It fell silent.
        """
        with self.guard(f"connecting to {hop.host} port {hop.port}", LOGIN_SECONDS):
            self._meter = MeteredSocket(self._reach(hop))
            transport = paramiko.Transport(self._meter, default_window_size=_WINDOW_BYTES)  # type: ignore[arg-type]
            self.transports.append(transport)
            self._tune(transport, hop)
            transport.start_client(timeout=LOGIN_SECONDS)
        return transport

    def enter(self, hop: Hop) -> paramiko.Transport:
        """Approach a hop, check its host key, and log in.

        Raises:
            UnknownHostKeyError: Its key is not pinned.
            ChangedHostKeyError: Its key is not the pinned one.
            AuthenticationError: It refused us.
        """
        transport = self.approach(hop)
        with self.guard(f"logging in to {hop}", LOGIN_SECONDS):
            address = f"{hop.user}@{hop.host}" + (f":{hop.port}" if hop.port != 22 else "")
            key = transport.get_remote_server_key()
            self.known_hosts.verify(hop.key_name, key, device=self.device, address=address)
            authenticate(transport, hop, device=self.device)
        transport.packetizer.set_keepalive(self.stall_seconds / _PINGS, lambda: ping(transport))
        return transport

    def _reach(self, hop: Hop) -> socket.socket | paramiko.Channel:
        """A stream to a hop: through the hop before it, a ProxyCommand, or TCP."""
        if self.transports:
            return self.transports[-1].open_channel(
                "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=LOGIN_SECONDS
            )
        if hop.proxy_command:
            self._socket, self._proxy = _spawn_proxy(hop.proxy_command)
        else:
            self._socket = within(CONNECT_SECONDS * 2, lambda: _tcp(hop))
        return self._socket

    def _tune(self, transport: paramiko.Transport, hop: Hop) -> None:
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # or its tracebacks go to our stderr
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = LOGIN_SECONDS
        transport.channel_timeout = LOGIN_SECONDS
        options = transport.get_security_options()
        ciphers = tuple(options.ciphers)
        first = tuple(name for name in _CIPHERS if name in ciphers)
        options.ciphers = first + tuple(name for name in ciphers if name not in first)
        pinned = {key.get_name() for key in self.known_hosts.keys(hop.key_name)}
        if pinned:  # ask for the kind of key that we can check
            kinds = tuple(options.key_types)
            options.key_types = tuple(sorted(kinds, key=lambda kind: not _same_kind(kind, pinned)))

    def close(self) -> None:
        """End everything; never raises, never waits long."""
        self.shut_down()
        for transport in reversed(self.transports):
            with contextlib.suppress(Exception):
                transport.close()
        if self._socket is not None:
            self._socket.close()
        if self._proxy is not None:
            self._proxy.kill()
            self._proxy.wait()


def _same_kind(kind: str, pinned: set[str]) -> bool:
    return kind in pinned or (kind.startswith("rsa-") and "ssh-rsa" in pinned)


def ping(transport: paramiko.Transport) -> None:
    """Ask the server for any answer, without waiting: proof of life for the watchdog while a device is busy.

    The library's own keepalive asks for no answer, so that a dead link looks like a quiet one.
    """
    message = paramiko.Message()
    message.add_byte(b"\x50")  # SSH_MSG_GLOBAL_REQUEST, RFC 4254 section 4
    message.add_string("keepalive@openssh.com")
    message.add_boolean(True)
    transport._send_user_message(message)  # type: ignore[attr-defined]


def _tcp(hop: Hop) -> socket.socket:
    stream = socket.create_connection((hop.host, hop.port), timeout=CONNECT_SECONDS)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 2000))
    return stream


def _spawn_proxy(command: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A ProxyCommand on one end of a socket pair: the other end is a socket like any other, which can be broken."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno())
    return ours, process
