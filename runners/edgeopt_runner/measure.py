"""The timed loops: warm-up, back-to-back and paced load. The rules are in `latency`; here is the clock.

A call is what `Session.prepare` returned: it runs the model once. Several are cycled, so that no input stays in cache
alone. Nothing else happens inside a timed sample: no I/O, no sampler, no garbage collection.
"""

import contextlib
import gc
import itertools
import time
from array import array
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from edgeopt_runner import latency
from edgeopt_runner.lanes import Lanes

MIN_WARMUP_RUNS = 5
_WARMUP_TOLERANCE = 0.05
_BLOCK_RUNS = 3
_NS = 1000000000

Call = Callable[[], Any]


def _coarse_clock_ns() -> int:
    return int(time.perf_counter() * 1e9)


clock_ns: Callable[[], int] = getattr(time, "perf_counter_ns", _coarse_clock_ns)


class Measured:
    """What the measured phase found.

    Attributes:
        latency: The fields of `edgeopt.core.measurement.Latency`.
        flags: ``unstable`` where the last windows do not agree.
        evidence: ``wall_seconds`` (settable clock), ``monotonic_seconds``, ``cpu_seconds`` of this process, and by kind
            of load ``minute_medians_ns`` and ``last_over_first``, or ``frames`` and ``deadline_misses``; with several
            sessions ``session_runs``.
        rate: Runs a second, all sessions together; ``None`` where they were paced.
    """

    def __init__(
        self, latency_: Dict[str, Any], flags: List[str], evidence: Dict[str, Any], rate: Optional[float] = None
    ) -> None:
        self.latency = latency_
        self.flags = flags
        self.evidence = evidence
        self.rate = rate


class WarmedUp:
    """How warm-up ended: runs, median of the last block in nanoseconds, and whether it hit its cap before settling."""

    def __init__(self, runs: int, median_ns: float, capped: bool) -> None:
        self.runs = runs
        self.median_ns = median_ns
        self.capped = capped


def warm_up(calls: Sequence[Call], plan: Dict[str, Any]) -> WarmedUp:
    """Run until two blocks agree within 5 %, for the plan's least time and at least five runs, or until its cap."""
    block_ns = int(float(plan["warmup_seconds"]) / 2 * _NS)
    least_ns, cap_ns = int(float(plan["warmup_seconds"]) * _NS), int(float(plan["max_warmup_seconds"]) * _NS)
    forever: Any = itertools.cycle(calls)
    runs: int = 0
    medians: List[float] = []
    start: int = clock_ns()
    while True:
        block: List[int] = []
        block_start = clock_ns()
        while len(block) < _BLOCK_RUNS or clock_ns() - block_start < block_ns:
            block.append(_sample(next(forever)))
            if block and clock_ns() - start >= cap_ns:
                break
        runs += len(block)
        medians.append(latency.median(block))
        elapsed = clock_ns() - start
        settled = len(medians) > 1 and latency.within(medians[-2:], _WARMUP_TOLERANCE)
        if settled and runs >= MIN_WARMUP_RUNS and elapsed >= least_ns:
            return WarmedUp(runs, medians[-1], False)
        if elapsed >= cap_ns:
            return WarmedUp(runs, medians[-1], not settled)


def _sample(call: Call) -> int:
    start = clock_ns()
    call()
    return clock_ns() - start


def timed_runs(calls: Sequence[Call], count: int) -> List[int]:
    """Durations of `count` single runs, in nanoseconds."""
    with _undisturbed():
        return [_sample(call) for call in itertools.islice(itertools.cycle(calls), count)]


def measure(
    calls: Sequence[Call], plan: Dict[str, Any], expected_ns: float, beside: Sequence[Sequence[Call]] = ()
) -> Measured:
    """The measured phase of a plan.

    Args:
        calls: Prepared runs, cycled.
        plan: The fields of `edgeopt.core.plan.Plan`; one with `target_fps` takes no `beside`.
        expected_ns: Duration of one inference, as warm-up found it.
        beside: Runs of further sessions, which are under the same load at the same time, and measured with it.
    """
    wall, cpu, start = time.time(), time.process_time(), clock_ns()
    with _undisturbed():
        if plan.get("target_fps"):
            measured = _paced(calls, plan)
        elif beside:
            measured = _together([calls] + list(beside), plan, expected_ns)
        else:
            measured = _back_to_back(calls, plan, expected_ns)
    measured.evidence.update(
        wall_seconds=time.time() - wall,
        monotonic_seconds=(clock_ns() - start) / float(_NS),
        cpu_seconds=time.process_time() - cpu,
    )
    return measured


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection while timing."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _back_to_back(calls: Sequence[Call], plan: Dict[str, Any], expected_ns: float) -> Measured:
    rule = latency.StoppingRule(plan, expected_ns)
    forever: Any = itertools.cycle(calls)
    samples: Any = array("q")
    windows: List[Any] = []
    start: int = clock_ns()
    deadline_ns = start + int(rule.max_seconds * _NS)
    while not rule.ended((clock_ns() - start) / float(_NS), len(samples), windows):
        window = _window(forever, rule, deadline_ns)
        samples.extend(window)
        windows.append(latency.Window(window))
    rate = len(samples) * rule.per_sample * float(_NS) / max(1, clock_ns() - start)
    return _measured(rule, samples, windows, rate, 1)


def _together(lanes: Sequence[Sequence[Call]], plan: Dict[str, Any], expected_ns: float) -> Measured:
    """As `_back_to_back`, on several sessions at once."""
    rule = latency.StoppingRule(plan, expected_ns)
    samples: Any = array("q")
    windows: List[Any] = []
    with Lanes(lanes, rule.per_sample, clock_ns) as load:
        load.settle(float(plan["warmup_seconds"]) / 2)
        start: int = clock_ns()
        deadline_ns = start + int(rule.max_seconds * _NS)
        while not rule.ended((clock_ns() - start) / float(_NS), len(samples), windows):
            window = load.window(rule, deadline_ns)
            samples.extend(window)
            windows.append(latency.Window(window))
    measured = _measured(rule, samples, windows, load.rate(), len(lanes))
    measured.evidence["session_runs"] = load.counts()
    return measured


def _measured(rule: latency.StoppingRule, samples: Any, windows: Sequence[Any], rate: float, lanes: int) -> Measured:
    """What back-to-back load found."""
    evidence: Dict[str, Any] = {}
    if rule.fixed:
        minutes = latency.minute_medians(samples, rule.per_sample / float(lanes))
        evidence = {"minute_medians_ns": minutes, "last_over_first": minutes[-1] / float(max(1, minutes[0]))}
    flags = [] if rule.fixed or latency.stable(windows) else ["unstable"]
    return Measured(latency.summary(samples, rule.per_sample, windows), flags, evidence, rate)


def _window(forever: Any, rule: latency.StoppingRule, deadline_ns: int) -> Any:
    """Samples of one window: until it is long enough and has enough of them, or the phase's time is over."""
    samples, per_sample, clock = array("q"), rule.per_sample, clock_ns
    append, inner = samples.append, range(rule.per_sample)
    now = clock()
    window_end = now + int(rule.window_seconds * _NS)
    while (now < window_end or len(samples) < rule.window_samples) and (now < deadline_ns or not samples):
        if per_sample == 1:
            call = next(forever)
            start = clock()
            call()
            now = clock()
        else:
            start = clock()
            for _ in inner:
                next(forever)()
            now = clock()
        append((now - start) // per_sample)
    return samples


def _paced(calls: Sequence[Call], plan: Dict[str, Any]) -> Measured:
    """Frames arrive on an absolute grid; one that arrives while the model is busy is dropped, and counts as missed."""
    rule = latency.StoppingRule(plan, 1e9 / float(plan["target_fps"]))
    forever, period_ns = itertools.cycle(calls), int(_NS / float(plan["target_fps"]))
    samples: Any = array("q")
    windows: List[Any] = []
    window: List[int] = []
    start: int = clock_ns()
    frame, misses = 0, 0
    while not _paced_enough(rule, start, samples):
        arrival = start + frame * period_ns
        _sleep_until(arrival)
        window.append(_sample(next(forever)))
        samples.append(window[-1])
        overrun = max(0, (clock_ns() - arrival) // period_ns)
        misses += overrun
        frame += overrun + 1
        if len(window) >= max(rule.window_samples, rule.window_seconds * _NS / period_ns):
            windows.append(latency.Window(window))
            window = []
    flags = [] if latency.stable(windows) else ["unstable"]
    evidence = {"frames": frame, "deadline_misses": misses}
    return Measured(latency.summary(samples, 1, windows), flags, evidence)


def _paced_enough(rule: latency.StoppingRule, start_ns: int, samples: Sequence[int]) -> bool:
    seconds = (clock_ns() - start_ns) / float(_NS)
    return seconds >= rule.max_seconds or (seconds >= rule.min_seconds and len(samples) >= rule.min_samples)


def _sleep_until(moment_ns: int) -> None:
    """Sleep to a moment of the clock; at once where it has passed."""
    while True:
        left_ns = moment_ns - clock_ns()
        if left_ns <= 0:
            return
        time.sleep(left_ns / 1e9)
