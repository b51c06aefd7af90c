"""Rounds of the whole on one device, of its stages one after the other, and of them as a pipeline, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from edgeopt.core.pipeline import DEVICE_MODES, Mode
from edgeopt.remote.stage import Feeds
from edgeopt.workflow.relay import Passed, Relay
from edgeopt.workflow.splitting import Rounds

_LEAST_REQUESTS = 5


@dataclass
class _Seen:
    """What is kept of the requests of one round: numbers, no tensors."""

    ends_ns: list[int] = field(default_factory=list)
    latencies_ns: list[int] = field(default_factory=list)
    busy_ns: list[list[int]] = field(default_factory=list)
    ways_ns: list[list[int]] = field(default_factory=list)

    def take(self, passed: Passed) -> None:
        """Note a result."""
        self.ends_ns.append(time.perf_counter_ns())
        self.latencies_ns.append(passed.latency_ns)
        self.busy_ns.append([answer.busy_ns for answer in passed.answers])
        there = [answer.there_ns for answer in passed.answers]
        back = [answer.back_ns for answer in passed.answers]
        self.ways_ns.append([a + b for a, b in zip([*there, 0], [0, *back], strict=True)])

    def rate(self, depth: int) -> float:
        """Requests a second once `depth` of them were on their way, and before the last ones ran out."""
        skipped = min(depth, max(0, len(self.ends_ns) - 3))
        ends = self.ends_ns[skipped:]
        return (len(ends) - 1) * 1e9 / max(1, ends[-1] - ends[0])


@dataclass
class RelayRounds:
    """The three of `DEVICE_MODES`, round by round.

    Args:
        whole: The whole network on the first device.
        stages: The stages on theirs.
        feeds: The requests, again and again.

    Attributes:
        busy_ns: Median time that each stage computed, by round.
        ways_ns: Median time on each edge, by round, with no other request on its way.
    """

    whole: Relay
    stages: Relay
    feeds: Sequence[Feeds]
    busy_ns: list[tuple[int, ...]] = field(default_factory=list)
    ways_ns: list[tuple[int, ...]] = field(default_factory=list)
    _seen: dict[str, list[_Seen]] = field(default_factory=lambda: {name: [] for name in DEVICE_MODES})

    def run(self, rounds: Rounds) -> tuple[Mode, ...]:
        """All rounds; the modes in their order.

        Raises:
            DeviceError: A device failed; names it and the stage.
        """
        one, sequential, pipeline = DEVICE_MODES
        turns: dict[str, Callable[[float], _Seen]] = {
            one: partial(self._one_by_one, self.whole),
            sequential: partial(self._one_by_one, self.stages),
            pipeline: self._flow,
        }
        for relay in (self.whole, self.stages):
            for feeds in self.feeds:
                relay.run(feeds)
        for number in range(rounds.count):
            for name in DEVICE_MODES if number % 2 == 0 else DEVICE_MODES[::-1]:
                self._seen[name].append(turns[name](rounds.seconds))
        self.ways_ns = [_medians(seen.ways_ns) for seen in self._seen[sequential]]
        self.busy_ns = [_medians(seen.busy_ns) for seen in self._seen[pipeline]]
        return tuple(self._mode(name) for name in DEVICE_MODES)

    def _mode(self, name: str) -> Mode:
        depth = len(self.stages.stages) if name == DEVICE_MODES[2] else 0
        alone = self._seen[DEVICE_MODES[1]] if name == DEVICE_MODES[2] else []
        return Mode(
            name,
            tuple(int(statistics.median(seen.latencies_ns)) for seen in self._seen[name]),
            tuple(seen.rate(depth) for seen in self._seen[name]),
            tuple(int(statistics.median(seen.latencies_ns)) for seen in alone),
        )

    def _one_by_one(self, relay: Relay, seconds: float) -> _Seen:
        seen = _Seen()
        for feeds in self._requests(seconds):
            seen.take(relay.run(feeds))
        return seen

    def _flow(self, seconds: float) -> _Seen:
        seen = _Seen()
        self.stages.flow(self._requests(seconds), seen.take)
        return seen

    def _requests(self, seconds: float) -> Iterator[Feeds]:
        """Requests for so long, and a few at least."""
        until, count = time.perf_counter() + seconds, 0
        while time.perf_counter() < until or count < _LEAST_REQUESTS:
            yield self.feeds[count % len(self.feeds)]
            count += 1


def _medians(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(int(statistics.median(column)) for column in zip(*rows, strict=True))
