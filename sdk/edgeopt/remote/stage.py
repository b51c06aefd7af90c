"""The client of one lent stage: feeds go to the device as raw tensors, outputs come back with what each part took."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.core.profile import Settings
from edgeopt.errors import LinkLostError, ProtocolError, UsageError
from edgeopt.remote.link import Channel, Link
from edgeopt.remote.loader import Placed
from edgeopt.remote.session import next_frame, refuse
from edgeopt.remote.untrusted import check_digest, field
from edgeopt_runner.protocol import frames, tensors

Feeds = Mapping[str, Any]
"""NumPy arrays by name."""

LOAD_SECONDS = 600.0
RUN_SECONDS = 300.0
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What one request came to.

    Attributes:
        outputs: By name.
        busy_ns: What inference itself took there.
        there_ns: From the call to the head of the answer, less `busy_ns`: the feeds' way, and the link's
            latency both ways.
        back_ns: From there to the last byte: the outputs' way.
    """

    outputs: dict[str, Any]
    busy_ns: int
    there_ns: int
    back_ns: int


class Stage:
    """A stage that a device has loaded. One request at a time; made by `Connection.stage`, and to be closed.

    Args:
        link: To the device.
        placed: The runner there.
        digest: SHA-256 of the stage, which is among its objects.
        order: ``owner, settings, limits``, as of a job.
        doing: What it is, for messages: ``stage 2 of 3``.

    Attributes:
        name: Device and what it is.
        inputs, outputs: Names of its tensors.

    Raises:
        RunnerError: It was refused, for example as its runtime is not there.
        DeviceError: The device cannot be reached any more, or its answer is none.
    """

    def __init__(self, link: Link, placed: Placed, digest: str, order: Mapping[str, Any], doing: str) -> None:
        self.name = f"{link.name}: {doing}"
        check_digest(digest, self.name)
        self._link, self._doing, self._number = link, doing, 0
        words = ("stage", "--root", placed.root, "--sha256", digest, "--order", json.dumps(order))
        with link.guard(doing, LOAD_SECONDS):
            channel = link.open(placed.command(*words))
            try:
                self._reader = frames.FrameReader(lambda _: channel.read(_READ_BYTES), tensors.HEAD_LIMIT_BYTES)
                first = self._next(channel)
                self.inputs, self.outputs = (_names(first, name, self.name) for name in ("inputs", "outputs"))
            except BaseException:
                channel.close()
                raise
        self._channel = channel

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, feeds: Feeds) -> Answer:
        """Outputs of one request; of `feeds` only the stage's inputs travel.

        Raises:
            RunnerError: The stage failed or was ended; `status` has the code.
            ProtocolError: The answer is none.
            LinkLostError: The device went away.
            UsageError: The feeds are larger than a message holds, or no numbers.
        """
        self._number += 1
        with self._link.guard(self._doing, RUN_SECONDS):
            start = time.perf_counter_ns()
            message = self._message(feeds)
            with contextlib.suppress(OSError):  # the stage ended; what it has to say comes next
                self._channel.write(message)
            head = self._next(self._channel)
            begun = time.perf_counter_ns()
            outputs = self._arrays(head)
            done = time.perf_counter_ns()
        if field(head, "number", int, self.name) != self._number or set(outputs) != set(self.outputs):
            raise ProtocolError(f"{self.name}: an answer to another request than {self._number}.")
        busy_ns = int(field(head, "busy_ns", int, self.name))
        if not 0 <= busy_ns <= begun - start:
            raise ProtocolError(f"{self.name}: it says that it computed for {busy_ns} ns of {begun - start}.")
        return Answer(outputs, busy_ns, begun - start - busy_ns, done - begun)

    def _message(self, feeds: Feeds) -> bytes:
        try:
            return tensors.encode({"number": self._number}, {name: feeds[name] for name in self.inputs})
        except tensors.TensorError as error:
            raise UsageError(f"{self.name}: {error}.", remedy="Cut at other tensors.") from None

    def _next(self, channel: Channel) -> dict[str, Any]:
        try:
            head = next_frame(self._reader, channel, self.name)
        except LinkLostError as error:
            said = error.message if error.message.startswith(self.name) else f"{self.name}: {error.message}"
            raise LinkLostError(said, remedy="Is the device still there? Then start again.") from error
        if "error" in head:
            raise refuse(head["error"], self.name)
        return head

    def _arrays(self, head: dict[str, Any]) -> dict[str, Any]:
        try:
            return tensors.TensorReader(self._reader).arrays(head)
        except tensors.TensorError as error:
            raise ProtocolError(f"{self.name}: {error}.") from None

    def close(self) -> None:
        """End the stage; never raises."""
        self._channel.close()


def order_of(owner: Mapping[str, str], settings: Settings, *, reason: str, idle_seconds: float) -> dict[str, Any]:
    """What a device is told beside the file: who asks, how to run it, how long to wait for a request."""
    limits = {"memory_bytes": None, "deadline_seconds": {"load": LOAD_SECONDS, "idle": idle_seconds}}
    return {"owner": {**owner, "reason": reason}, "settings": settings.document(), "limits": limits}


def _names(first: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    return tuple(str(one) for one in field(first, name, list, where))
