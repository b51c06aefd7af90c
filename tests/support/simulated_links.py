"""How the client reaches a simulated board: a link, its session, and a connection that starts no runner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.core.device import Device
from edgeopt.errors import ConnectError, LinkLostError
from edgeopt.remote import jobs
from edgeopt.remote.bundle import Bundle
from edgeopt.remote.client import Connection
from edgeopt.remote.link import Channel
from edgeopt.remote.loader import Placed
from edgeopt.remote.session import Session
from edgeopt_runner.protocol import frames

if TYPE_CHECKING:
    from support.simulated_boards import SimulatedBoard

BUNDLE = Bundle(Path("simulated.pyz"), "0" * 64, "0" * 64)


class _Channel:
    """The session of a simulated board."""

    def __init__(self, link: SimulatedLink) -> None:
        self._board = link.board
        self._out = bytearray()
        self._in = bytearray()
        self._incoming: tuple[int, str, int] | None = None

    def write(self, data: bytes | memoryview) -> None:
        if self._incoming is not None:
            self._take(bytes(data))
            return
        self._in += data
        requests = iter((bytes(self._in), b""))
        self._in.clear()
        request = frames.FrameReader(lambda _: next(requests, b"")).next()
        assert request is not None
        if request["verb"] == "receive":
            self._await(request["id"], **request["params"])
        else:
            self._out += frames.encode(self._board.answer(request))

    def _await(self, number: int, sha256: str, size: int) -> None:
        there, offset = self._board.has(sha256), self._board.arrived(sha256)
        self._say(number, {"have": there, "offset": offset})
        if there or offset == size:
            self._say(number, {"ok": True})
        else:
            self._incoming = (number, sha256, size)

    def _say(self, number: int, result: dict[str, Any]) -> None:
        self._out += frames.encode({"id": number, "ok": True, "result": result})

    def _take(self, data: bytes) -> None:
        assert self._incoming is not None
        number, digest, size = self._incoming
        cut = self._board.behaviour.cut_after_bytes
        if cut and len(data) > cut:
            self._board.behaviour.cut_after_bytes = 0
            self._board.receive(digest, size, data[:cut])
            raise LinkLostError(f"{self._board.name}: the link went away.")
        self._board.receive(digest, size, data)
        if self._board.has(digest):
            self._incoming = None
            self._say(number, {"ok": True})

    def read(self, count: int) -> bytes:
        data = bytes(self._out[:count])
        del self._out[:count]
        return data

    def close_stdin(self) -> None:
        """Nothing waits for it."""

    @property
    def stderr_tail(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing is held."""


class SimulatedLink:
    """A link to a simulated board."""

    def __init__(self, board: SimulatedBoard) -> None:
        self.board, self.name = board, board.name
        if board.behaviour.offline:
            board.behaviour.offline -= board.behaviour.offline > 0
            raise ConnectError(f"{board.name}: no address of it answers.")

    def open(self, command: str) -> Channel:
        return _Channel(self)

    @contextlib.contextmanager
    def guard(self, doing: str, deadline_seconds: float) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Nothing is held."""


class SimulatedConnection(Connection):
    """The runner's client over a simulated link: everything but starting the runner is the real thing."""

    def __init__(self, board: SimulatedBoard, device: Device) -> None:
        self._board = board
        super().__init__(device, BUNDLE, jobs.Owner("tester", "host"), None, 15.0)

    def _open(self) -> None:
        self._link = SimulatedLink(self._board)
        self.placed = Placed("python3", "3.9.2", "/simulated.pyz", "/root", "", 0.0)
        channel = self._link.open("serve")
        self._session = Session(self._link, channel, frames.FrameReader(channel.read))
        self.hello = self._session.request("hello", {"protocols": [1]}, 60.0)
