"""A TCP proxy with faults that can be set while it runs: cut or silent after so many bytes, or from the start."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator


class ChaosProxy:
    """Forwards connections to one address.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        cut_after: Reset a connection once this many bytes went towards the server; once only.
        stall_after: Stay open but forward nothing more once this many bytes went towards the server.
        silent: Accept, say nothing, forward nothing.
        connections: Connections so far.
        stalled: Connections that have fallen silent.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut_after: int | None = None
        self.stall_after: int | None = None
        self.silent = False
        self.connections = self.stalled = 0
        self._open: list[socket.socket] = []
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._open.append(client)
                if not self.silent:
                    threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        address = ("127.0.0.1", self._target_port)
        with contextlib.suppress(OSError), client, socket.create_connection(address) as server:
            self._open.append(server)
            self._pump(client, server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        upwards = 0
        while not self._closing.is_set():
            if self.stall_after is not None and upwards >= self.stall_after:
                self.stalled += 1
                self._closing.wait()
                return
            for end in select.select([client, server], [], [], 0.2)[0]:
                data = end.recv(65536)
                if not data:
                    return
                if end is client:
                    upwards += len(data)
                    if self.cut_after is not None and upwards >= self.cut_after:
                        self.cut_after = None
                        _reset(client)
                        return
                (server if end is client else client).sendall(data)

    def cut_all(self) -> None:
        """Reset every connection that is open now."""
        for end in self._open:
            with contextlib.suppress(OSError):
                _reset(end)
        self._open.clear()

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        self._listener.close()
        for end in self._open:
            end.close()


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def chaos_proxy(target_port: int) -> Iterator[ChaosProxy]:
    """A proxy before a port of this machine."""
    proxy = ChaosProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
