"""Back-to-back load on several sessions at once: one thread a session, read in windows while it goes on.

The threads never pause between windows, so that each inference is timed while all the others are busy.
"""

import itertools
import threading
import time
from array import array
from typing import Any, Callable, List, Optional, Sequence, Tuple

from edgeopt_runner import latency

_SETTLING_RUNS = 3
_LONGEST_SLEEP_SECONDS = 0.01

Call = Callable[[], Any]
Clock = Callable[[], int]


class Lane:
    """The durations of one session's inferences, each with the moment of its end."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.durations: Any = array("q")
        self.ends: Any = array("q")
        self.taken = 0
        self.first = 0

    def take(self) -> List[Tuple[int, int]]:
        """Ends and durations since the last time."""
        upto = len(self.ends)
        found = [(self.ends[number], self.durations[number]) for number in range(self.taken, upto)]
        self.taken = upto
        return found

    def rate(self, per_sample: int) -> float:
        """Inferences a second from the first sample that counts to the last one taken."""
        if self.taken <= self.first:
            return 0.0
        since = self.ends[self.first - 1] if self.first else self.ends[0] - self.durations[0] * per_sample
        seconds: float = max(1, self.ends[self.taken - 1] - since) / 1e9
        return (self.taken - self.first) * per_sample / seconds


class Lanes:
    """All lanes under load, from entering the ``with`` to leaving it.

    Args:
        lanes: Calls of each session, cycled.
        per_sample: Inferences behind one sample.
        clock: Monotonic nanoseconds.
    """

    def __init__(self, lanes: Sequence[Sequence[Call]], per_sample: int, clock: Clock) -> None:
        self.lanes = [Lane(calls) for calls in lanes]
        self._per_sample = per_sample
        self._clock = clock
        self._stop = threading.Event()
        self._error: Optional[BaseException] = None
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name="lane", daemon=True) for lane in self.lanes
        ]

    def __enter__(self) -> "Lanes":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, lane: Lane) -> None:
        forever, inner, clock = itertools.cycle(lane.calls), range(self._per_sample), self._clock
        per_sample, stopped = self._per_sample, self._stop.is_set
        try:
            while not stopped():
                start = clock()
                for _ in inner:
                    next(forever)()
                end = clock()
                lane.durations.append((end - start) // per_sample)
                lane.ends.append(end)
        except BaseException as error:  # told by the thread that waits for the samples
            self._error = error

    def settle(self, seconds: float) -> None:
        """Let the lanes run into each other before anything counts: at least three samples each."""
        until = self._clock() + int(seconds * 1e9)
        while self._clock() < until or min(len(lane.ends) for lane in self.lanes) < _SETTLING_RUNS:
            self._wait(_LONGEST_SLEEP_SECONDS)
        for lane in self.lanes:
            lane.take()
            lane.first = lane.taken

    def window(self, rule: latency.StoppingRule, deadline_ns: int) -> Any:
        """Samples of all lanes in the order of their ends: until there are enough, or the phase's time is over."""
        window_end = self._clock() + int(rule.window_seconds * 1e9)
        while True:
            self._wait(min(_LONGEST_SLEEP_SECONDS, max(0.0, (window_end - self._clock()) / 1e9)))
            now, count = self._clock(), sum(len(lane.ends) - lane.taken for lane in self.lanes)
            if (now >= window_end and count >= rule.window_samples) or (now >= deadline_ns and count):
                found = sorted(pair for lane in self.lanes for pair in lane.take())
                return array("q", [duration for _, duration in found])

    def _wait(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.001))
        if self._error is not None:
            raise self._error

    def rate(self) -> float:
        """Inferences a second of all lanes together, from what counted."""
        return sum(lane.rate(self._per_sample) for lane in self.lanes)

    def counts(self) -> List[int]:
        """Inferences of each lane, from what counted."""
        return [(lane.taken - lane.first) * self._per_sample for lane in self.lanes]
