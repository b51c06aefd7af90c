"""All that a worker started, by a mark in its environment: a child that left group and session bears it still.

Marks rather than a control group, which an SSH login may not make. A program that replaces its environment as well is
found only while it stays in the worker's group.
"""

import contextlib
import os
import signal
import time
import uuid
from typing import Dict, List, Optional, Set

from edgeopt_runner import processes

VARIABLE = "EDGEOPT_WORKER"
_END_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_QUIET_LOOKS = 3
"""Looks that must find nothing after one that did: what is born during a look is not seen by it."""


def new_mark() -> str:
    """A mark of a worker of this process: our pid and start, so that anybody sees whether we still live, and a name."""
    return "%d.%d.%s" % (os.getpid(), processes.start_ticks(os.getpid()) or 0, uuid.uuid4().hex)


def environment(mark: str) -> Dict[str, str]:
    """This process's environment with a mark, for a worker."""
    return dict(os.environ, **{VARIABLE: mark})


def bearing(mark: str) -> List[int]:
    """Pids of the processes with a mark that we may look at; those that have ended and wait to be reaped have none."""
    return [pid for pid in _pids() if _mark_of(pid) == mark]


def end(mark: str, seconds: float = _END_SECONDS) -> List[int]:
    """End every process with a mark, again and again until there is none.

    All of them are stopped before the first is killed: one that is alive might go on starting others.

    Args:
        mark: As `new_mark` made it.
        seconds: Time allowed.

    Returns:
        Those that would not go: they hang in the kernel, or start others faster than they are found.
    """
    ends = time.monotonic() + seconds
    stopped: Set[int] = set()
    quiet, enough = 0, 1
    while quiet < enough and time.monotonic() < ends:
        found = bearing(mark)
        new = set(found) - stopped
        for pid in new or found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP if new else signal.SIGKILL)
        stopped = stopped | new if new else set()
        quiet, enough = (0, _QUIET_LOOKS) if found else (quiet + 1, enough)
        if not new and quiet < enough:
            time.sleep(_PAUSE_SECONDS)
    return bearing(mark) if quiet < enough else []


def end_orphans() -> int:
    """End what workers left behind whose guard was killed itself; returns how many marks there were.

    Those in another process namespace are let alone: by our numbers nobody can tell whether their guard lives.
    """
    marks = {mark for mark in (_mark_of(pid) for pid in _pids() if _is_near(pid)) if mark and not _guarded(mark)}
    for mark in marks:
        end(mark)
    return len(marks)


def _pids() -> List[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _mark_of(pid: int) -> Optional[str]:
    """The mark of a process that we may look at; ``None`` where it has none."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            entries = stream.read().split(b"\0")
    except OSError:
        return None
    start = VARIABLE.encode("ascii") + b"="
    return next((entry[len(start) :].decode("utf-8", "replace") for entry in entries if entry.startswith(start)), None)


def _guarded(mark: str) -> bool:
    """Whether the process that made a mark lives; true of what is no mark of ours."""
    pid, _, rest = mark.partition(".")
    ticks = rest.partition(".")[0]
    return not (pid.isdigit() and ticks.isdigit()) or processes.start_ticks(int(pid)) == int(ticks)


def _is_near(pid: int) -> bool:
    try:
        return os.readlink("/proc/%d/ns/pid" % pid) == os.readlink("/proc/self/ns/pid")
    except OSError:
        return False
