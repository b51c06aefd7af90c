"""The progress of a run as a file beside its report, so that another process can follow it; a line an event.

What cannot be written is not: a full disk must not end a run that only wanted to say where it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgeopt.core.progress import Line, Progress, Stage
from edgeopt.workflow.listener import Listener

NAME = "progress.jsonl"
_DETAIL_SECONDS = 1.0
_MOST_TEXT = 400
_MOST_LINES = 200


class Recorded:
    """A listener that also writes what it hears.

    Args:
        listener: Who is told as before.
        path: The file; its folder is made. One of an earlier process is gone on with.
        clock: Seconds since the epoch.
    """

    def __init__(self, listener: Listener, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._listener, self._path, self._clock = listener, path, clock
        self._detailed_at = 0.0
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._write("begin", "")

    def stage(self, name: str, total: int) -> None:
        """A stage with `total` steps begins."""
        self._write("stage", name, total)
        self._listener.stage(name, total)

    def advance(self, text: str) -> None:
        """One step of the stage is done."""
        self._write("advance", text)
        self._listener.advance(text)

    def detail(self, text: str) -> None:
        """What the current step is at; written once a second at most."""
        if self._clock() - self._detailed_at >= _DETAIL_SECONDS:
            self._detailed_at = self._clock()
            self._write("detail", text)
        self._listener.detail(text)

    def note(self, text: str) -> None:
        """Something that the user should know."""
        self._write("note", text)
        self._listener.note(text)

    def _write(self, kind: str, text: str, total: int = 0) -> None:
        event = {"at": round(self._clock(), 3), "kind": kind, "text": text[:_MOST_TEXT], "total": total}
        with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")


class Followed:
    """A progress file as it grows; several threads may ask.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._progress = Progress()
        self._lock = threading.Lock()

    def catch_up(self) -> Progress:
        """Where the run stands; a line that is half written waits, one that is no event is skipped."""
        with self._lock:
            for line in self._added():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    said = Line(float(event["at"]), str(event["text"]))
                    self._progress = _after(self._progress, str(event["kind"]), said, int(event["total"]))
            return self._progress

    def _added(self) -> list[bytes]:
        try:
            with open(self._path, "rb") as stream:
                stream.seek(self._read)
                added = stream.read()
        except OSError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.splitlines()


def _after(so_far: Progress, kind: str, said: Line, total: int) -> Progress:
    """What is known after an event."""
    lines = (*so_far.lines, said)[-_MOST_LINES:] if said.text and kind in ("advance", "note") else so_far.lines
    if kind == "begin":
        return Progress(lines=so_far.lines, begun=so_far.begun + 1)
    if kind == "stage":
        return dataclasses.replace(so_far, stages=(*so_far.stages, Stage(said.text, max(0, total))), detail="")
    if kind == "advance":
        return dataclasses.replace(
            so_far, stages=_advanced(so_far.stages), lines=lines, detail="", steps=so_far.steps + 1
        )
    return dataclasses.replace(so_far, lines=lines, detail=said.text if kind == "detail" else so_far.detail)


def _advanced(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if not stages:
        return ()
    return (*stages[:-1], dataclasses.replace(stages[-1], done=stages[-1].done + 1))
