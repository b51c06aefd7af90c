"""Reads that bring a byte, writes that take some, and signals at any moment: bytes arrive whole all the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import storage, transfer
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.agent.web import Web
from edgeopt_runner.protocol import frames
from edgeopt_runner.refusals import Refusal

DATA = random.Random(3).randbytes(6000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> str:
    storage.prepare(str(tmp_path))
    return str(tmp_path)


@pytest.fixture(autouse=True)
def signals() -> Iterator[list[int]]:
    """A signal every half millisecond, whose handler returns: every call that waits is interrupted many times."""
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    yield seen
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert len(seen) > 3


def drip(connection: socket.socket, data: bytes) -> None:
    """Send one byte at a time, each in a segment of its own."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError), connection:
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])


@contextlib.contextmanager
def dripping(data: bytes) -> Iterator[socket.socket]:
    """The end of a connection at whose other end the data come in bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as mine:
        sender = threading.Thread(target=drip, args=(listening.accept()[0], data))
        sender.start()
        yield mine
        sender.join()


@pytest.fixture
def short_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every write to a descriptor takes a third of what it is given, at least a byte."""
    taken: list[int] = []
    write = os.write

    def short(descriptor: int, data: Any) -> int:
        taken.append(write(descriptor, bytes(data)[: max(1, len(data) // 3)]))
        return taken[-1]

    monkeypatch.setattr(os, "write", short)
    return taken


def test_an_object_that_comes_in_bytes_and_is_written_in_pieces_is_whole(root: str, short_writes: list[int]) -> None:
    told: list[dict[str, Any]] = []
    with dripping(DATA) as source:
        transfer.receive(root, DIGEST, len(DATA), source.fileno(), told.append)
    assert told == [{"have": False, "offset": 0}, {"ok": True}]
    assert Path(storage.object_path(root, DIGEST)).read_bytes() == DATA
    assert sum(short_writes) == len(DATA)


def test_one_that_breaks_off_among_its_bytes_is_gone_on_with(root: str, short_writes: list[int]) -> None:
    with dripping(DATA[:2500]) as source, pytest.raises(Refusal, match="2500 of 6000 bytes arrived"):
        transfer.receive(root, DIGEST, len(DATA), source.fileno(), lambda _: None)
    told: list[dict[str, Any]] = []
    with dripping(DATA[2500:]) as source:
        transfer.receive(root, DIGEST, len(DATA), source.fileno(), told.append)
    assert told[0] == {"have": False, "offset": 2500}
    assert Path(storage.object_path(root, DIGEST)).read_bytes() == DATA


def test_an_object_goes_whole_through_a_pipe_that_is_hardly_read(root: str) -> None:
    data = random.Random(4).randbytes(3 << 20)  # many times what a pipe holds, so that writes stop in the middle
    digest = hashlib.sha256(data).hexdigest()
    Path(storage.object_path(root, digest)).write_bytes(data)
    reading, writing = os.pipe()
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(reading, 3001), b"")))
    reader.start()
    with os.fdopen(writing, "wb") as answers:
        transfer.send(root, digest, answers)
    reader.join()
    os.close(reading)
    assert b"".join(found) == frames.encode({"size": len(data)}) + data


def test_a_frame_that_comes_in_bytes_is_a_frame() -> None:
    document = {"verb": "hello", "params": {"protocols": [1]}}
    with dripping(b"noise\n" + frames.encode(document) * 2) as source:
        reader = frames.FrameReader(lambda count: os.read(source.fileno(), count))
        assert [reader.next(), reader.next(), reader.next()] == [document, document, None]


@contextlib.contextmanager
def store(*answers: bytes) -> Iterator[Tree]:
    """A store whose every answer comes in bytes, one a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection = listening.accept()[0]
                connection.recv(65536)
                drip(connection, answer)

        server = threading.Thread(target=serve)
        server.start()
        yield Tree(f"http://127.0.0.1:{listening.getsockname()[1]}", Web(), Patience("board", 3, 0.01))
        server.join()


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_file_of_a_store_that_sends_bytes_is_whole(root: str) -> None:
    with store(whole("200 OK", DATA)) as tree:
        path = tree.bring(root, f"blobs/{DIGEST}", DIGEST, len(DATA))
    assert Path(path).read_bytes() == DATA
    assert tree.received_bytes == len(DATA)


def test_one_whose_connection_ends_among_its_bytes_is_gone_on_with(root: str) -> None:
    rest = whole("206 Partial Content", DATA[2000:], f"Content-Range: bytes 2000-5999/{len(DATA)}")
    with store(whole("200 OK", DATA)[: -len(DATA) + 2000], rest) as tree:
        path = tree.bring(root, f"blobs/{DIGEST}", DIGEST, len(DATA))
    assert Path(path).read_bytes() == DATA
    assert tree.received_bytes == len(DATA)


def test_a_small_document_that_comes_in_bytes_is_whole(root: str) -> None:
    with store(whole("200 OK", DATA, 'ETag: "7"')) as tree:
        assert tree.small("metadata/timestamp.json", len(DATA)).body == DATA
