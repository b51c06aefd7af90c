"""Runs one worker under guard: deadlines by phase, a memory watch, a capped log, and a name for however it ends.

The guard watches what is used instead of setting `RLIMIT_AS`: GPU runtimes reserve huge ranges that they never touch.
"""

import os
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from edgeopt_runner import ends, memory, offspring, processes
from edgeopt_runner.protocol import CANCELLED, ERROR, MEMORY_GUARD, PROCESS_GUARD, TIMEOUT
from edgeopt_runner.pumps import EventPump, LogPump

TICK_SECONDS = 0.1
PHASE_SECONDS = 1800.0
TOTAL_SECONDS = 4 * 3600.0
EXIT_SECONDS = 10.0
KILL_SECONDS = 60.0
MOST_PROCESSES = 128
_MANY_TASKS = 64
FLOOR_BYTES = 64 << 20
FLOOR_SHARE = 0.05

Limits = NamedTuple("Limits", [("memory_bytes", Optional[int]), ("deadline_seconds", Dict[str, float])])
"""What a job may use: resident bytes (``None``: only the board's floor counts); seconds by phase and in ``total``."""

Outcome = NamedTuple(
    "Outcome",
    [("status", str), ("detail", str), ("result", Optional[Dict[str, Any]]), ("available_drop_bytes", Optional[int])],
)
"""How a worker ended, what it returned, and how far MemAvailable fell while it ran."""


def limits_of(job: Dict[str, Any]) -> Limits:
    """The limits in a job document."""
    limits = job.get("limits") or {}
    deadlines = {str(phase): float(seconds) for phase, seconds in (limits.get("deadline_seconds") or {}).items()}
    return Limits(limits.get("memory_bytes"), deadlines)


class GuardedWorker:
    """One worker process, for use in a ``with``: whatever happens in the block, nothing that it started is left behind.

    Args:
        command: Builds the command from the descriptor that the worker reports on.
        log_path: Where what it prints goes.
        limits: What it may use.
        on_phase: Called with the phase and its monotonic time when the worker announces one.
        descriptors: What else of ours the worker inherits, under the same numbers.
    """

    def __init__(
        self,
        command: Callable[[int], List[str]],
        log_path: str,
        limits: Limits,
        on_phase: Callable[[str, float], None],
        descriptors: Sequence[int] = (),
    ) -> None:
        self._limits = limits
        self._on_phase = on_phase
        self._wake = threading.Event()
        self._kills_before = ends.oom_kills()
        self._available_at_start = memory.available_bytes()
        self._lowest = self._available_at_start
        self._floor = max(FLOOR_BYTES, int(memory.total_bytes() * FLOOR_SHARE))
        self._over = False
        self._mark = offspring.new_mark()
        self._tasks = processes.tasks()
        read_end, write_end = os.pipe()
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                command(write_end),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end, *descriptors),
                start_new_session=True,
                env=offspring.environment(self._mark),
                cwd="/",
            )
        except OSError:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        assert self._process.stdout is not None
        self._events = EventPump(read_end, self._wake.set)
        self._log = LogPump(os.dup(self._process.stdout.fileno()), log_path)
        self._process.stdout.close()
        self._events.start()
        self._log.start()
        self.identity = dict(processes.identity(self._process.pid), mark=self._mark)

    def __enter__(self) -> "GuardedWorker":
        return self

    def __exit__(self, *_: Any) -> None:
        self._kill()

    def wait(self, cancelled: threading.Event) -> Outcome:
        """Watch until the worker has ended or has to be, and end it."""
        verdict = self._watch(cancelled)
        if verdict is None:
            self._let_exit()
        self._kill()
        if verdict is None or self._events.result is not None:
            verdict = self._judge()
        return self._outcome(verdict)

    def _watch(self, cancelled: threading.Event) -> Optional[Tuple[str, str]]:
        """Watch until the worker has ended (``None``), or has to be."""
        verdict: Optional[Tuple[str, str]] = None
        phase = ""
        while self._process.poll() is None and not self._events.ended and verdict is None:
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            if self._events.phase != phase:
                phase = self._events.phase
                self._on_phase(phase, self._events.phase_since)
            verdict = (CANCELLED, "cancelled by the host") if cancelled.is_set() else self._breach()
        return verdict

    def _breach(self) -> Optional[Tuple[str, str]]:
        """The limit that the worker has passed, if any."""
        now, phase = time.monotonic(), self._events.phase
        deadlines = self._limits.deadline_seconds
        allowed, total = deadlines.get(phase, PHASE_SECONDS), deadlines.get("total", TOTAL_SECONDS)
        if now - self._events.phase_since > allowed:
            return "%s:%s" % (TIMEOUT, phase), "phase %s took longer than %g s" % (phase, allowed)
        if now - self._started > total:
            return "%s:%s" % (TIMEOUT, phase), "the job took longer than %g s, and was in phase %s" % (total, phase)
        return self._memory_breach() or self._crowd_breach()

    def _memory_breach(self) -> Optional[Tuple[str, str]]:
        available = memory.available_bytes()
        if available is not None:
            self._lowest = available if self._lowest is None else min(self._lowest, available)
            if available < self._floor:
                text = "the board had %d MiB of memory left, and %d MiB are kept free for the rest of it"
                return MEMORY_GUARD, text % (available >> 20, self._floor >> 20)
        limit = self._limits.memory_bytes
        used = memory.resident_bytes(self._process.pid) if limit is not None else 0
        if limit is not None and used > limit:
            return MEMORY_GUARD, "the worker used %d MiB of memory, and %d MiB are allowed" % (used >> 20, limit >> 20)
        return None

    def _crowd_breach(self) -> Optional[Tuple[str, str]]:
        """Too many processes; they are counted only where the board has many more tasks than when it was last asked."""
        tasks = processes.tasks()
        if tasks is None or self._tasks is None or tasks < self._tasks + _MANY_TASKS:
            return None
        self._tasks, count = tasks, len(offspring.bearing(self._mark))
        if count > MOST_PROCESSES:
            return PROCESS_GUARD, "the worker had %d processes, and %d are allowed" % (count, MOST_PROCESSES)
        return None

    def _let_exit(self) -> None:
        """Give a worker that has closed its channel time to leave; some runtimes hang or crash while tearing down."""
        self._await_end(EXIT_SECONDS)

    def _await_end(self, seconds: float) -> None:
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass

    def _kill(self) -> None:
        """End the whole group and all that left it, once; then drain the pipes."""
        if self._over:
            return  # the group's number may be somebody else's by now
        self._over = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        offspring.end(self._mark)
        self._await_end(KILL_SECONDS)
        self._events.join(timeout=2.0)
        self._log.join(timeout=2.0)

    def _judge(self) -> Tuple[str, str]:
        """What a worker that ended by itself deserves: its own result if there is one, else a name for its death."""
        result = self._events.result
        if result is not None:
            status = result.get("status")
            if not isinstance(status, str):
                return ERROR, "the worker's result has no status"
            return status, str(result.get("detail", ""))
        if self._process.returncode is None:
            return ERROR, "the worker hangs in the kernel and cannot be ended: the device has to be rebooted"
        after = ends.oom_kills()
        kills = None if after is None or self._kills_before is None else after - self._kills_before
        short = self._lowest is not None and self._lowest < 2 * self._floor
        return ends.name_end(self._process.returncode, kills, short, self._log.last_line)

    def _outcome(self, verdict: Tuple[str, str]) -> Outcome:
        drop = None
        if self._available_at_start is not None and self._lowest is not None:
            drop = max(0, self._available_at_start - self._lowest)
        return Outcome(verdict[0], verdict[1], self._events.result, drop)
