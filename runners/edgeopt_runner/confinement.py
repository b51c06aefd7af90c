"""Bounds that the kernel holds a worker to; the guard's watch looks ten times a second, and these between its looks."""

import contextlib
import os
import resource
from typing import Any, Dict, Optional

from edgeopt_runner import processes

MOST_NEW_TASKS = 1024
_SLACK_BYTES = 1 << 30
_BYTES_PER_CORE = 64 << 20


def confine(limits: Dict[str, Any]) -> None:
    """Bound this process and all that it will start.

    No core dumps, which fill a card with copies of memory. Not many more tasks than the user has now: the kernel counts
    those of the user together, and lets root have any number. Where memory is limited, so is what may be written to
    (`RLIMIT_DATA`), far above it: runtimes reserve much that they never touch, most of all of address space
    (`RLIMIT_AS`), which says nothing of what they use.

    Args:
        limits: Of the job document.
    """
    _bound(resource.RLIMIT_CORE, 0)
    tasks = processes.tasks()
    if tasks is not None:
        _bound(resource.RLIMIT_NPROC, tasks + MOST_NEW_TASKS)
    memory_bytes: Optional[float] = limits.get("memory_bytes")
    if memory_bytes:
        _bound(resource.RLIMIT_DATA, int(2 * memory_bytes) + _SLACK_BYTES + _BYTES_PER_CORE * (os.cpu_count() or 1))


def _bound(what: int, most: int) -> None:
    """Lower a limit, soft and hard; one that is lower already stays."""
    bounds = [most if bound == resource.RLIM_INFINITY else min(most, bound) for bound in resource.getrlimit(what)]
    with contextlib.suppress(ValueError, OverflowError, OSError):
        resource.setrlimit(what, (bounds[0], bounds[1]))
