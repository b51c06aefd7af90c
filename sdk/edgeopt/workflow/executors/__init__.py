"""Where variants are made and judged: in this process, in a pool of processes, or on a Ray cluster."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgeopt.errors import ToolError, UsageError
from edgeopt.workflow.executors._base import Executor
from edgeopt.workflow.executors.here import Here

if TYPE_CHECKING:
    from pathlib import Path

HERE = "here"
MOST_WORKERS = 256

_POOL = re.compile(r"pool:(\d{1,4})")
_RAY = re.compile(r"ray:(?P<address>auto|//[^\s/:]+:\d+|[^\s/:]+:\d+)")


def check_executor(text: str) -> None:
    """Refuse an executor that is not known, or that needs what is not installed; nothing is started.

    Args:
        text: ``here``, ``pool:N``, ``ray:auto``, ``ray:HOST:PORT`` (a node's own address) or ``ray://HOST:PORT`` (its
            server for clients).

    Raises:
        UsageError: It is none of these.
        ToolError: Ray is not installed here.
    """
    pool = _POOL.fullmatch(text)
    if text == HERE or (pool and 1 <= int(pool[1]) <= MOST_WORKERS):
        return
    if not _RAY.fullmatch(text):
        raise UsageError(
            f"--executor {text!r} is not known.",
            remedy=f"Use {HERE}, pool:4 (1 to {MOST_WORKERS} processes), ray:auto, or ray://HOST:10001.",
        )
    if find_spec("ray") is None:
        raise ToolError(f"--executor {text} needs Ray, which is not here.", remedy="pip install 'edgeopt[ray]'.")


def open_executor(text: str, cache: Path) -> Executor:
    """Start, or connect to, what `check_executor` lets through; to be closed.

    Args:
        text: As for `check_executor`.
        cache: Folder for files that come from elsewhere.

    Raises:
        UsageError: It is not known.
        ToolError: Ray is not installed, there is no cluster, or its nodes do not have what we have.
    """
    check_executor(text)
    if text == HERE:
        return Here()
    if pool := _POOL.fullmatch(text):
        from edgeopt.workflow.executors.pool import Pool

        return Pool(int(pool[1]))
    from edgeopt.workflow.executors.on_ray import OnRay

    address = text.removeprefix("ray:")
    return OnRay(f"ray:{address}" if address.startswith("//") else address, cache)
