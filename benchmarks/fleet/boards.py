"""Rollouts over simulated boards, what they cost the host and what the gates find: `benchmarks/fleet/boards.py`.

The boards speak the runner's protocol to the real client, engine and database, all in this one process; what they
measure is made up (latency with a noise of 8 %, memory with 2 %), and their files are small.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from edgeopt.core.fleet import Caps
from edgeopt.core.rollout import GatePolicy, Rollout
from edgeopt.fleet.gate import failures_allowed, wilson_upper
from edgeopt.fleet.waves import DEFAULT_WAVES
from edgeopt.workflow.fleet import engine
from support.rollouts import counts, database, planned, run
from support.simulated_boards import Behaviour, SimulatedBoard, SimulatedFleet, SimulatedSource

KINDS = tuple(f"kind{number}" for number in range(5))
SITES = 7
CONCURRENCY = 64
SLOWER, SLOW_KIND = 0.08, KINDS[2]
FAILING, OFFLINE, MOST_AWAY = 0.05, 0.3, 0.5
MOST_MIB, MOST_STEP_MS, MOST_THREADS = 500, 100, 1
Shape = Callable[[str, str], Behaviour]


@dataclass
class Steps:
    """CPU time of the thread that decides, one number for every turn of its loop.

    Attributes:
        milliseconds: Of each turn: hearing, deciding, writing to the database, starting threads.
    """

    milliseconds: list[float] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Take the time of every turn inside the block."""
        kind, marks = engine._Engine, [0.0]
        hear, launch = kind._hear, kind._launch

        def first(self_: Any, wait: float) -> None:
            marks[0] = time.thread_time()
            hear(self_, wait)

        def last(self_: Any, step: Any) -> None:
            launch(self_, step)
            self.milliseconds.append((time.thread_time() - marks[0]) * 1e3)

        kind._hear, kind._launch = first, last  # type: ignore[method-assign]
        try:
            yield
        finally:
            kind._hear, kind._launch = hear, launch  # type: ignore[method-assign]

    @property
    def p99(self) -> float:
        """The 99th percentile in milliseconds."""
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[98]


@dataclass(frozen=True)
class Lab:
    """A folder with a release, and rollouts over boards that are made for it.

    Attributes:
        folder: For the files and the databases.
    """

    folder: Path

    def source(self) -> SimulatedSource:
        """The release."""
        return SimulatedSource(self.folder / "release", KINDS)

    def roll(
        self, boards: SimulatedFleet, name: str, waves: tuple[str, ...] = DEFAULT_WAVES, most_away: float = 0.34
    ) -> Rollout:
        """Plan and drive a rollout in a database of that name; a wave waits while a larger share is away."""
        source, folder = self.source(), self.folder / name.partition("/")[0]
        folder.mkdir(exist_ok=True)
        rollout_id = hashlib.sha256(name.encode()).hexdigest()[:16]
        with database(folder) as store:
            gate, caps = GatePolicy(max_unreachable=most_away), Caps(concurrency=CONCURRENCY)
            planned(store, boards.fleet, source.digest, waves, gate, caps, rollout_id=rollout_id)
            return run(store, rollout_id, boards, source)


def fleet_of(count: int, seed: int, shape: Shape) -> SimulatedFleet:
    """So many boards of five kinds on seven sites; another seed measures other numbers and fails on other boards."""
    made = {}
    for number in range(count):
        name = f"board-{seed}-{number:05}"
        profile = KINDS[number % len(KINDS)]
        made[name] = SimulatedBoard(name, profile, f"site{number % SITES}", shape(name, profile))
    return SimulatedFleet(made)


def chosen(name: str, share: float) -> bool:
    """The same boards every time, in no order that waves could follow."""
    return int(hashlib.sha256(f"chosen: {name}".encode()).hexdigest()[:8], 16) < share * (1 << 32)


def plain(_name: str, _kind: str) -> Behaviour:
    """A board to which nothing happens."""
    return Behaviour()


def failing(name: str, _kind: str) -> Behaviour:
    """One in twenty does not pass its health check."""
    return Behaviour(outcome="rolled_back", code="health_failed") if chosen(name, FAILING) else Behaviour()


def slower(_name: str, kind: str) -> Behaviour:
    """On one kind of board the release is slower; every board passes its own check."""
    return Behaviour(slower=SLOWER if kind == SLOW_KIND else 0.0)


def offline(name: str, _kind: str) -> Behaviour:
    """Three in ten do not answer."""
    return Behaviour(offline=-1 if chosen(name, OFFLINE) else 0)


def many(lab: Lab, count: int) -> bool:
    """One rollout over all, then ten over a tenth; prints what they cost, returns whether the targets are met."""
    steps, boards = Steps(), fleet_of(count, 0, plain)
    before, started, cpu = peak_mib(), time.perf_counter(), time.process_time()
    with steps.timed():
        driven = lab.roll(boards, "many")
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert counts(driven) == {"committed": count}, counts(driven)
    peak, threads = peak_mib(), ten_more(lab, max(20, count // 10))
    longest = max(steps.milliseconds)
    print(f"\n| {count} boards, {CONCURRENCY} at a time | measured | target | |\n|---|--:|--:|---|")
    row("host memory, peak (the boards' own state included)", f"{peak:.0f} MiB", f"< {MOST_MIB} MiB", peak < MOST_MIB)
    print(f"| of that before the rollout began | {before:.0f} MiB | | |")
    met = longest < MOST_STEP_MS
    row("scheduler step, CPU, longest", f"{longest:.1f} ms", f"< {MOST_STEP_MS} ms", met)
    print(f"| 99th percentile of {len(steps.milliseconds)} steps | {steps.p99:.1f} ms | | |")
    print(f"| wall | {wall:.0f} s ({wall / count * 1e3:.1f} ms a board) | | |")
    print(f"| CPU, boards and host together | {cpu:.0f} s | | |")
    row("threads left after 10 more rollouts", str(threads), str(MOST_THREADS), threads <= MOST_THREADS)
    return peak < MOST_MIB and met and threads <= MOST_THREADS


def ten_more(lab: Lab, count: int) -> int:
    """Ten rollouts one after the other; the threads that are left."""
    for number in range(10):
        driven = lab.roll(fleet_of(count, number, plain), f"ten/{number}", ("100%",))
        assert driven.state == "done", driven.reason
    return threading.active_count()


def health(lab: Lab, count: int, seeds: int) -> bool:
    """One in twenty fails its check: where that halts, and after how many boards."""
    met, waves, failures, updated, bound = 0, [], [], [], ""
    for seed in range(seeds):
        driven = lab.roll(fleet_of(count, seed, failing), f"health{seed}")
        failed = sum(board.state == "rolled_back" and board.wave == driven.wave for board in driven.boards)
        of = len(driven.plan.wave(driven.wave))
        allowed = failures_allowed(of, driven.plan.gate)
        exact = allowed < failed <= allowed + CONCURRENCY
        met += driven.state == "halted" and driven.wave < len(DEFAULT_WAVES) and exact
        waves.append(driven.wave)
        failures.append(sum(board.state == "rolled_back" for board in driven.boards))
        updated.append(sum(board.state == "committed" for board in driven.boards))
        upper = wilson_upper(allowed, of, driven.plan.gate.confidence)
        bound = f"wave {driven.wave}: {allowed} of {of} may fail (then up to {upper:.2%} of such boards may)"
    print(f"\n| {count} boards, {FAILING:.0%} fail their health check, {seeds} seeds | |\n|---|---|")
    row("halted before the last wave, past the bound", f"{met} of {seeds}", "", met == seeds)
    print(f"| in wave ({', '.join(DEFAULT_WAVES)}) | {tally(waves)} |")
    print(f"| boards that had it and fell back, median and most | {spread(failures)} |")
    print(f"| boards that were updated before, median and most | {spread(updated)} |")
    print(f"| the bound of the last one | {bound} |")
    return met == seeds


def regression(lab: Lab, count: int, seeds: int) -> bool:
    """A regression on one kind that no board's own check sees: how often it is found, and one that is not there."""
    found, waves, touched, halts = 0, [], [], 0
    for seed in range(seeds):
        driven = lab.roll(fleet_of(count, seed, slower), f"slower{seed}")
        found += driven.state == "halted" and driven.reason.startswith(SLOW_KIND)
        waves.append(driven.wave)
        mine = [board for board in driven.boards if board.profile == SLOW_KIND]
        touched.append(sum(board.state == "committed" for board in mine))
        halts += lab.roll(fleet_of(count, seed, plain), f"same{seed}").state != "done"
    print(f"\n| {count} boards, {SLOWER:.0%} slower on one of {len(KINDS)} kinds, {seeds} seeds | |\n|---|---|")
    row("found, and named", f"{found} of {seeds}", "", found == seeds)
    print(f"| in wave ({', '.join(DEFAULT_WAVES)}) | {tally(waves)} |")
    print(f"| boards of that kind that had it, of {count // len(KINDS)}, median and most | {spread(touched)} |")
    row("false halts without it", f"{halts} of {seeds}", "", halts <= seeds * 0.05)
    return found == seeds and halts <= seeds * 0.05


def converging(lab: Lab, count: int) -> bool:
    """Three in ten are away, come back, and the same command brings them the release; the others are left alone."""
    boards = fleet_of(count, 0, offline)
    away = sum(board.behaviour.offline < 0 for board in boards.boards.values())
    first = lab.roll(boards, "away/1", ("10%", "100%"), MOST_AWAY)
    restarts, received = boards.total("restarts"), boards.total("received")
    for board in boards.boards.values():
        board.behaviour.offline = 0
    second = lab.roll(boards, "away/2", ("100%",))
    third = lab.roll(boards, "away/3", ("100%",))
    behind = {name: board for name, board in boards.boards.items() if board.state["restarts"] != 1}
    sent = boards.total("received")
    met = (counts(first).get("unreachable"), counts(second)) == (away, {"committed": count}) and not behind
    print(f"\n| {count} boards, {away} away ({MOST_AWAY:.0%} of a wave may be) | |\n|---|---|")
    print(f"| first rollout | {first.state}: {said(first)} |")
    row("when they are back", f"{second.state}: {said(second)}", "", met)
    print(f"| restarts there, first and second | {restarts}, {boards.total('restarts') - restarts} |")
    idle = third.state == "done" and not behind and sum(board.sent_bytes for board in third.boards) == 0
    row("once more", f"{sum(board.sent_bytes for board in third.boards)} bytes, {len(behind)} restarts", "", idle)
    print(f"| bytes received, all boards | {received} and {sent - received} |")
    return met and idle


def row(what: str, measured: str, target: str, met: bool) -> None:
    """A line of a table with its verdict; two columns where no target is named."""
    verdict = "met" if met else "**missed**"
    print(f"| {what} | {measured} | {target} | {verdict} |" if target else f"| {what} | {measured}: {verdict} |")


def said(rollout: Rollout) -> str:
    """How the boards of a rollout ended."""
    return ", ".join(f"{count} {state}" for state, count in sorted(counts(rollout).items()))


def tally(numbers: list[int]) -> str:
    """How often each number was seen."""
    return ", ".join(f"{number}: {numbers.count(number)} times" for number in sorted(set(numbers)))


def spread(numbers: list[int]) -> str:
    """Median and largest."""
    return f"{statistics.median(numbers):g} and {max(numbers)}"


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Parse the command line and print the tables; leave with 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab, smaller = Lab(Path(folder)), min(1000, arguments.boards)
        met = [many(lab, arguments.boards)]
        met.append(health(lab, smaller, arguments.seeds))
        met.append(regression(lab, smaller, arguments.seeds))
        met.append(converging(lab, smaller))
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
