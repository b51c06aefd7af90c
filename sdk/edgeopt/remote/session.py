"""The conversation with one `serve` process of the runner: framed requests, checked answers."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

from edgeopt.errors import DeviceError, LinkLostError, ProtocolError, RemoteDiskError, RunnerError
from edgeopt.remote.link import Channel, Link
from edgeopt.remote.untrusted import checked, field, one_line
from edgeopt_runner import protocol
from edgeopt_runner.protocol import frames

RECEIVE = "receive"
_ROOT_REMEDY = "Free some space there, or choose another folder: edgeopt device add ... --root FOLDER."


def next_frame(reader: frames.FrameReader, channel: Channel, where: str) -> dict[str, Any]:
    """The next document of a channel. To be called inside the link's guard.

    Raises:
        ProtocolError: A frame that is not sound.
        LinkLostError: The program at the other end ended.
    """
    try:
        document = reader.next()
    except frames.FrameError as error:
        raise ProtocolError(
            f"{where}: {error}.", remedy="Does something on the device write into its output?"
        ) from None
    if document is None:
        said = one_line(channel.stderr_tail[-300:]) or one_line(reader.noise[-300:].decode("utf-8", "replace"))
        raise LinkLostError(f"{where}: the runner ended{f' ({said})' if said else ''}.", remedy="Try again.")
    cleaned: dict[str, Any] = checked(document, where)
    return cleaned


def refuse(error: Any, where: str) -> DeviceError:
    """Our error for a runner's ``{"code", "message", "remedy"}``."""
    code = one_line(str(field(error, "code", str, where)))
    message = one_line(str(error.get("message", "")), 400)
    remedy = one_line(str(error.get("remedy") or ""))
    if code in (protocol.DISK_FULL, protocol.READ_ONLY):
        return RemoteDiskError(f"{where}: {message} ({code}).", remedy=_ROOT_REMEDY)
    return RunnerError(f"{where}: {message} ({code}).", remedy=remedy, status=code)


class Session:
    """A running `serve`; one request at a time, from any thread.

    Args:
        link: The link that it runs over.
        channel: Its channel.
        reader: The reader of the channel, behind the loader's frames.

    Attributes:
        broken_off: Whether an object was sent half; nothing can be asked any more.
    """

    def __init__(self, link: Link, channel: Channel, reader: frames.FrameReader) -> None:
        self._link, self._channel, self._reader = link, channel, reader
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.broken_off = False

    def request(self, verb: str, params: dict[str, Any], deadline_seconds: float) -> dict[str, Any]:
        """Ask and wait for the answer.

        Raises:
            RunnerError: The runner refused; `status` has its code.
            RemoteDiskError: The device's disk is full or cannot be written.
            ProtocolError: The answer is none.
            LinkLostError: The link or the runner went away.
        """
        with self._lock, self._link.guard(verb, deadline_seconds):
            return self._answered(self._ask(verb, params), verb)

    @contextlib.contextmanager
    def receiving(self, digest: str, size: int, deadline_seconds: float) -> Iterator[tuple[dict[str, Any], Channel]]:
        """Have the runner take an object: gives what it has of it, and the channel that the rest is written to.

        Nothing else can be asked meanwhile. How it ended is known at the end of the block, which raises as `request`.
        """
        with self._lock, self._link.guard(RECEIVE, deadline_seconds):
            number = self._ask(RECEIVE, {"sha256": digest, "size": size})
            first = self._answered(number, RECEIVE)
            try:
                yield first, self._channel
                self._answered(number, RECEIVE)
            except BaseException:
                self.broken_off = True
                raise

    def _ask(self, verb: str, params: dict[str, Any]) -> int:
        number = next(self._numbers)
        self._channel.write(frames.encode({"id": number, "verb": verb, "params": params}))
        return number

    def _answered(self, number: int, verb: str) -> dict[str, Any]:
        where = f"{self._link.name}: {verb}"
        answer = next_frame(self._reader, self._channel, where)
        if field(answer, "id", int, where) != number:
            raise ProtocolError(f"{where}: an answer to request {answer['id']} instead of {number}.")
        if field(answer, "ok", bool, where):
            result: dict[str, Any] = field(answer, "result", dict, where)
            return result
        raise refuse(answer.get("error"), where)
