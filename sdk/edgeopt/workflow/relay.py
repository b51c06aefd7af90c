"""Hands tensors from stage to stage over the host: one request at a time, or one in flight for each stage."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import EdgeoptError
from edgeopt.remote.stage import Answer, Feeds, Stage

_END_SECONDS = 5.0


@dataclass(frozen=True)
class Passed:
    """A request that went through all stages.

    Attributes:
        number: The how manieth, from 0.
        values: Every tensor on its way, by name: inputs, edges, outputs.
        answers: Of each stage.
        put_ns: When it went in, `time.perf_counter_ns`.
        latency_ns: Until it came out.
    """

    number: int
    values: dict[str, Any]
    answers: tuple[Answer, ...]
    put_ns: int
    latency_ns: int = 0

    def after(self, answer: Answer) -> Passed:
        """The same behind one more stage."""
        values = {**self.values, **answer.outputs}
        latency_ns = time.perf_counter_ns() - self.put_ns
        return Passed(self.number, values, (*self.answers, answer), self.put_ns, latency_ns)


Take = Callable[[Passed], None]
_Queue = queue.SimpleQueue[Any]


class Relay:
    """Stages in a row.

    Args:
        stages: Front to back; they stay the caller's.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def run(self, feeds: Feeds, number: int = 0) -> Passed:
        """One request through all stages, one after the other.

        Raises:
            DeviceError: Of the stage that failed.
        """
        found = Passed(number, dict(feeds), (), time.perf_counter_ns())
        for stage in self.stages:
            found = found.after(stage.run(found.values))
        return found

    def flow(self, requests: Iterable[Feeds], take: Take) -> None:
        """Requests through all stages, as many at once as there are stages; results come in the order of the requests.

        Raises:
            DeviceError: Of the stage that failed first; the others are left alone, with at most one request each.
        """
        queues: list[_Queue] = [queue.SimpleQueue() for _ in range(len(self.stages) + 1)]
        threads = [
            threading.Thread(target=_serve, args=(stage, queues[place], queues[place + 1], queues[-1]), daemon=True)
            for place, stage in enumerate(self.stages)
        ]
        for thread in threads:
            thread.start()
        try:
            put = taken = 0
            for feeds in requests:
                if put - taken == len(self.stages):
                    take(_result(queues[-1], taken))
                    taken += 1
                queues[0].put(Passed(put, dict(feeds), (), time.perf_counter_ns()))
                put += 1
            for number in range(taken, put):
                take(_result(queues[-1], number))
        finally:
            for waiting in queues[:-1]:
                waiting.put(None)
            for thread in threads:
                thread.join(_END_SECONDS)


def _serve(stage: Stage, source: _Queue, sink: _Queue, results: _Queue) -> None:
    """One stage's thread: request by request, until there are no more or one fails."""
    while (request := source.get()) is not None:
        try:
            sink.put(request.after(stage.run(request.values)))
        except Exception as error:  # whatever it is, who waits for the result has to hear it
            results.put(error)
            return


def _result(results: _Queue, number: int) -> Passed:
    found = results.get()
    if isinstance(found, Exception):
        raise found
    if found.number != number:
        raise EdgeoptError(f"request {found.number} came out of the pipeline instead of {number}.")
    passed: Passed = found
    return passed
