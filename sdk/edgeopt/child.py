"""Runs one function in a child process with a deadline: converters segfault, hang, and exit 0 without a result.

What counts is the checked result, never the exit code. A process pool would share a crash between jobs; a fresh
process does not.
"""

from __future__ import annotations

import contextlib
import importlib
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
from typing import Any

from edgeopt import errors

Progress = Callable[[str, float], None]
"""Hears what a child is at, and which share of it is done, 0 to 1."""

_LOG_TAIL_BYTES = 2000
_POLL_SECONDS = 0.5
_OUR_PACKAGES = ("edgeopt", "edgeopt_runner")
_PROGRESS = "EDGEOPT_CHILD_PROGRESS"
"""Names the file that a child writes its progress to; a variable, as the child's own processes may write it too."""


def report_progress(text: str, share: float) -> None:
    """Say, from inside a child, how far it is; without effect elsewhere.

    Args:
        text: For a person: ``epoch 3 of 10, loss 0.21, 12 s left``.
        share: How much is done, 0 to 1.
    """
    if path := os.environ.get(_PROGRESS):
        partial = Path(f"{path}.{os.getpid()}.part")
        partial.write_text(json.dumps([text, share]))
        partial.replace(path)


def run_child(
    function: str,
    arguments: Mapping[str, Any],
    *,
    deadline_seconds: float,
    what: str,
    on_progress: Progress | None = None,
    python: Path | None = None,
) -> Any:
    """Call `function` in a fresh interpreter and return its result.

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
        result_path, log_path = Path(folder, "result.json"), Path(folder, "log")
        Path(folder, "job.json").write_text(json.dumps({"function": function, "arguments": dict(arguments)}))
        paths = [path for path in sys.path if path] if python is None else [_packages_only(function, Path(folder))]
        command = [str(python or sys.executable), "-m", "edgeopt.child", folder]
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_environment(paths),
            )
            with _killed_with_us(process):
                status = _wait(process, deadline_seconds, _follower(Path(folder, "progress.json"), on_progress))
        last_line = _last_line(log_path)
        if status != "timeout" and result_path.exists():
            return _unpack(json.loads(result_path.read_text()))
    raise errors.ChildError(
        f"{what}: the child process ended with {status} ({last_line or 'it printed nothing'})", status=status
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


def _environment(paths: Sequence[str]) -> dict[str, str]:
    """Our environment, with an import path, so that the child sees the same code.

    ONNX Runtime reports names and digests of models to its maker from 1.29 on, unless it is told not to. Converters go
    through sets of names: without a fixed seed of hashes the same network would come out in another order.
    """
    fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}
    return {"ORT_DISABLE_TELEMETRY": "1", **os.environ, **fixed}


@contextlib.contextmanager
def _killed_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
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


def _wait(process: subprocess.Popen[bytes], deadline_seconds: float, follow: Callable[[], None] | None) -> str:
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


def _main(folder: str) -> int:
    """Entry of the child: read the job, call the function, write the result atomically."""
    die_with_parent()
    os.environ[_PROGRESS] = str(Path(folder, "progress.json"))
    job = json.loads(Path(folder, "job.json").read_text())
    module_name, _, name = job["function"].partition(":")
    try:
        document: dict[str, Any] = {"result": getattr(importlib.import_module(module_name), name)(**job["arguments"])}
    except errors.EdgeoptError as error:
        document = {"error": {"class": error.code, "message": error.message, "remedy": error.remedy}}
    partial = Path(folder, "result.part")
    partial.write_text(json.dumps(document))
    partial.replace(Path(folder, "result.json"))
    return 0


def die_with_parent() -> None:
    """Ask Linux to end us when the parent is killed; elsewhere watch for being adopted."""
    import ctypes
    import threading

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
