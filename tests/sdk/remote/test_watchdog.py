from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from edgeopt.errors import DeadlineError, LinkLostError
from edgeopt.remote.watchdog import guarded
from edgeopt.remote.wire import MeteredSocket, unacknowledged_bytes


class Wire:
    def __init__(self, moves: bool = False) -> None:
        self.moves, self.count, self.down = moves, 0, threading.Event()

    def moved(self) -> int:
        self.count += self.moves
        return self.count

    def shut_down(self) -> None:
        self.down.set()


def blocked_call(wire: Wire, *, deadline_seconds: float, stall_seconds: float) -> str:
    limits = {"deadline_seconds": deadline_seconds, "stall_seconds": stall_seconds}
    with pytest.raises(DeadlineError) as caught, guarded(wire, "board: probing", **limits):  # noqa: PT012
        assert wire.down.wait(20)
        raise OSError("socket is closed")
    return str(caught.value)


def test_a_wire_on_which_nothing_moves_is_shut_down() -> None:
    message = blocked_call(Wire(), deadline_seconds=60, stall_seconds=0.3)
    assert "board: probing: no byte came through for 0.3 s" in message


def test_a_wire_that_moves_ends_only_at_the_deadline() -> None:
    message = blocked_call(Wire(moves=True), deadline_seconds=0.6, stall_seconds=0.3)
    assert "board: probing: not done after 0.6 s" in message


def test_a_call_that_ends_in_time_leaves_the_wire_alone() -> None:
    wire = Wire()
    with guarded(wire, "board: probing", deadline_seconds=60, stall_seconds=0.2):
        pass
    time.sleep(0.5)
    assert not wire.down.is_set()


def test_two_calls_are_watched_by_one_thread() -> None:
    first, second = Wire(), Wire()
    with guarded(first, "a", deadline_seconds=60, stall_seconds=60):
        blocked_call(second, deadline_seconds=60, stall_seconds=0.2)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("edgeopt-watchdog") == 1
    assert not first.down.is_set()


def test_what_the_transport_raises_becomes_ours_and_our_own_passes() -> None:
    lost = pytest.raises(LinkLostError, match="board: probing: the link went away")
    with lost, guarded(Wire(), "board: probing", deadline_seconds=60, stall_seconds=60):
        raise ConnectionResetError("reset by peer")
    with pytest.raises(KeyError), guarded(Wire(), "board", deadline_seconds=60, stall_seconds=60):
        raise KeyError("a bug of ours is not the link's")


def test_few_acknowledged_bytes_do_not_count_as_movement() -> None:
    left, right = socket.socketpair()
    with left, right:
        meter = MeteredSocket(left)
        meter.send(b"x" * 200)
        assert meter.progress(0) == 0
        for _ in range(100):
            meter.send(b"x" * 100)
        assert meter.progress(0) > 0
        assert meter.progress(10_200) == 0
        right.send(b"answer")
        meter.recv(10)
        assert meter.progress(10_200) == 6


def test_bytes_that_the_peer_has_not_acknowledged_are_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as stream:
        assert unacknowledged_bytes(stream) == 0
        stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                stream.send(b"x" * 65536)
        assert (unacknowledged_bytes(stream) or 0) > 0
