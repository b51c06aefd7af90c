"""Runs one function in a child process with a deadline: converters segfault, hang, and exit 0 without a result.

What counts is the checked result, never the exit code. A process pool would share a crash between jobs; a process for
each call, forked from a `nursery` that has the libraries loaded, does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from edgeopt import errors
from edgeopt.child import job
from edgeopt.child.job import die_with_parent, report_progress
from edgeopt.child.nursery import nursery

__all__ = ["Progress", "die_with_parent", "environment_of", "how_it_ended", "report_progress", "run_child"]

Progress = Callable[[str, float], None]
"""Hears what a child is at, and which share of it is done, 0 to 1."""

_LOG_TAIL_BYTES = 2000
_POLL_SECONDS = 0.5
_OUR_PACKAGES = ("edgeopt", "edgeopt_runner")


class Process(Protocol):
    """A running child, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int:
        """It leads a process group of that number."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or minus the signal. Raises subprocess.TimeoutExpired."""


def run_child(
    function: str,
    arguments: Mapping[str, Any],
    *,
    deadline_seconds: float,
    what: str,
    on_progress: Progress | None = None,
    python: Path | None = None,
) -> Any:
    """Call `function` in a process of its own and return its result.

    Args:
        function: ``package.module:name``; takes the arguments by keyword, returns a JSON value.
        arguments: JSON values.
        deadline_seconds: After this the child and all it started are killed.
        what: What the child does, for messages: ``"exporting nets.py:build"``.
        on_progress: Called with what the child says by `report_progress`, once for each new text.
        python: Another interpreter (`environments`): it sees our packages and `function`'s, and else only its own.

    Raises:
        ChildError: It crashed, ran past the deadline, or ended without a result.
        EdgeoptError: Whatever of our own errors the function raised, rebuilt here.
    """
    with tempfile.TemporaryDirectory(prefix="edgeopt-child-") as folder:
        place = Path(folder)
        paths = [path for path in sys.path if path] if python is None else [_packages_only(function, place)]
        environment = environment_of(paths)
        order = {"function": function, "arguments": dict(arguments)}
        surroundings = {"environment": environment, "paths": paths, "folder": os.getcwd()}
        (place / job.ORDER).write_text(json.dumps({**order, **surroundings}))
        process = _start(place, environment, python)
        with _killed_with_us(process):
            status = _wait(process, deadline_seconds, _follower(place / job.PROGRESS, on_progress))
        last_line = _last_line(place / job.LOG)
        if status != "timeout" and (place / job.RESULT).exists():
            return _unpack(json.loads((place / job.RESULT).read_text()))
    raise errors.ChildError(
        f"{what}: the child process ended with {status} ({last_line or 'it printed nothing'})", status=status
    )


def _start(folder: Path, environment: Mapping[str, str], python: Path | None) -> Process:
    """Fork the child off the nursery; in a fresh interpreter where it is another one, or forking is not Linux's."""
    if python is None and sys.platform == "linux":
        with contextlib.suppress(OSError):
            return nursery(environment).start(folder)
    with open(folder / job.LOG, "wb") as log:
        return subprocess.Popen(
            [str(python or sys.executable), "-m", "edgeopt.child", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=dict(environment),
        )


def _last_line(log_path: Path) -> str:
    """The end of what the child printed, which may be much and anything, without what a terminal would obey."""
    with open(log_path, "rb") as log:
        log.seek(max(0, log_path.stat().st_size - _LOG_TAIL_BYTES))
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return "".join(character if character.isprintable() else " " for character in lines[-1]) if lines else ""


def _packages_only(function: str, folder: Path) -> str:
    """A folder that holds our packages, by links: where they are installed lie all others too, which may clash."""
    packages = folder / "packages"
    packages.mkdir()
    for name in sorted({*_OUR_PACKAGES, function.partition(":")[0].partition(".")[0]}):
        found = importlib.util.find_spec(name)
        place = found and (next(iter(found.submodule_search_locations or ()), None) or found.origin)
        if place:
            (packages / Path(place).name).symlink_to(place)
    return str(packages)


def environment_of(paths: Sequence[str]) -> dict[str, str]:
    """Our environment, with an import path, so that a child sees the same code.

    ONNX Runtime reports names and digests of models to its maker from 1.29 on, unless it is told not to. Converters go
    through sets of names: without a fixed seed of hashes the same network would come out in another order.
    """
    fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}
    return {"ORT_DISABLE_TELEMETRY": "1", **os.environ, **fixed}


@contextlib.contextmanager
def _killed_with_us(process: Process) -> Iterator[None]:
    """Take the child's whole process group down however this block ends."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _follower(path: Path, on_progress: Progress | None) -> Callable[[], None] | None:
    """Passes on what the child newly says about its progress."""
    if on_progress is None:
        return None
    said: list[Any] = []

    def follow() -> None:
        with contextlib.suppress(OSError, ValueError):
            if (found := json.loads(path.read_text())) != said:
                said[:] = found
                on_progress(str(found[0]), float(found[1]))

    return follow


def _wait(process: Process, deadline_seconds: float, follow: Callable[[], None] | None) -> str:
    """How it ended; polled where somebody follows its progress."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        left = deadline - time.monotonic()
        try:
            returncode = process.wait(timeout=min(left, _POLL_SECONDS) if follow else left)
            break
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                return "timeout"
        if follow:
            follow()
    return how_it_ended(returncode)


def how_it_ended(returncode: int) -> str:
    """The status of a child that left no result: ``crash:<signal>``, ``exit:<code>`` or ``no_result``."""
    if returncode < 0:
        return f"crash:{_signal_name(-returncode)}"
    return f"exit:{returncode}" if returncode else "no_result"


def _signal_name(number: int) -> str:
    """For example ``SIGSEGV``; real-time signals have no name in Python, yet end processes all the same."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _unpack(document: dict[str, Any]) -> Any:
    if "error" not in document:
        return document["result"]
    error = document["error"]
    kind = getattr(errors, error["class"], errors.EdgeoptError)
    raise kind(error["message"], remedy=error["remedy"])
