"""Files to a device and back, by digest: nothing is sent that is there, a cut transfer goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import ProtocolError
from edgeopt.remote.link import Channel, Link
from edgeopt.remote.loader import Placed
from edgeopt.remote.session import next_frame, refuse
from edgeopt.remote.untrusted import field
from edgeopt_runner.protocol import frames

Progress = Callable[[int, int], None]
"""Called with the bytes that the device has and the size of the file."""

_BLOCK_BYTES = 1 << 20
_SLOWEST_BYTES_PER_SECOND = 10_000
_LEAST_SECONDS = 180.0


Receiver = AbstractContextManager[tuple[dict[str, Any], Channel]]
"""Gives what the device has of an object, and where its other bytes go; what becomes of them is known at the end."""


def seconds_for(size: int) -> float:
    """How long a transfer of so many bytes may take."""
    return _LEAST_SECONDS + size / _SLOWEST_BYTES_PER_SECOND


@dataclass(frozen=True)
class PushReport:
    """What a push cost.

    Attributes:
        total_bytes: Size of the file.
        sent_bytes: Bytes handed to the link, over all attempts; 0 where the device had the file.
    """

    total_bytes: int
    sent_bytes: int


def send_object(receiver: Receiver, path: Path, where: str, progress: Progress | None = None) -> Iterator[int]:
    """Send a file once, and yield the sizes of the blocks before they leave; verified on the device when exhausted.

    An iterator, so that the caller knows how much was sent even where the link is lost half-way.

    Raises:
        RemoteDiskError: No room there.
        RunnerError: The runner refused it, for example ``digest_mismatch``.
        LinkLostError: The link went away.
    """
    size = path.stat().st_size
    with receiver as (first, channel):
        if field(first, "have", bool, where):
            return
        offset = field(first, "offset", int, where)
        if not 0 <= offset <= size:
            raise ProtocolError(f"{where}: it says that it has {offset} of {size} bytes.")
        with contextlib.suppress(OSError):  # the receiver left; what it has to say comes next
            yield from _blocks(channel, path, offset, size, progress)


@contextlib.contextmanager
def receiver(
    link: Link, placed: Placed, digest: str, size: int, where: str
) -> Iterator[tuple[dict[str, Any], Channel]]:
    """A process of its own that takes an object while a session goes on; as `Session.receiving`."""
    with _running(link, placed, ["receive", "--sha256", digest, "--size", str(size)], size) as (channel, reader):
        first = _sound(next_frame(reader, channel, where), where)
        yield first, channel
        channel.close_stdin()
        _sound(next_frame(reader, channel, where), where)


def _sound(document: dict[str, Any], where: str) -> dict[str, Any]:
    if "error" in document:
        raise refuse(document["error"], where)
    return document


def _blocks(channel: Channel, path: Path, offset: int, size: int, progress: Progress | None) -> Iterator[int]:
    block = memoryview(bytearray(_BLOCK_BYTES))
    with open(path, "rb", buffering=0) as stream:
        stream.seek(offset)
        while offset < size and (count := stream.readinto(block[: size - offset])):
            yield count  # before the write: a block that the link loses half-way counts whole
            channel.write(block[:count])
            offset += count
            if progress is not None:
                progress(offset, size)


def fetch_object(link: Link, placed: Placed, digest: str, destination: Path, limit_bytes: int) -> int:
    """Bring an object of the device here, verified, and put it in place atomically.

    Args:
        link: An open link.
        placed: The runner there.
        digest: SHA-256 of the object.
        destination: The file to make.
        limit_bytes: Largest size that is accepted.

    Returns:
        Its size in bytes.

    Raises:
        ProtocolError: It is larger than allowed, or not what its digest says.
        RunnerError: The device does not have it.
        LinkLostError: The link went away.
    """
    where = f"{link.name}: fetching {digest[:12]}"
    with _running(link, placed, ["send", "--sha256", digest], limit_bytes) as (channel, reader):
        first = next_frame(reader, channel, where)
        if "error" in first:
            raise refuse(first["error"], where)
        size = int(field(first, "size", int, where))
        if not 0 <= size <= limit_bytes:
            raise ProtocolError(f"{where}: it has {size} bytes, more than the {limit_bytes} allowed.")
        _store(reader, size, digest, destination, where)
    return size


def _store(reader: frames.FrameReader, size: int, digest: str, destination: Path, where: str) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}.")
    try:
        found, left = hashlib.sha256(), size
        with os.fdopen(descriptor, "wb") as stream:
            while left and (chunk := reader.rest(min(left, _BLOCK_BYTES))):
                found.update(chunk)
                stream.write(chunk)
                left -= len(chunk)
        if left or found.hexdigest() != digest:
            raise ProtocolError(f"{where}: {size - left} of {size} bytes came, with SHA-256 {found.hexdigest()}.")
        os.replace(partial, destination)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _running(
    link: Link, placed: Placed, arguments: list[str], size: int
) -> Iterator[tuple[Channel, frames.FrameReader]]:
    """One transfer process of the runner, bounded in time by the size of what it moves."""
    doing = f"transfer ({arguments[0]})"
    with link.guard(doing, seconds_for(size)):
        channel = link.open(placed.command(arguments[0], "--root", placed.root, *arguments[1:]))
        try:
            yield channel, frames.FrameReader(lambda _: channel.read(_BLOCK_BYTES))
        finally:
            channel.close()
