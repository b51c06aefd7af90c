"""Carries out orders in processes of this computer, several at a time.

`concurrent.futures.ProcessPoolExecutor` was the alternative: there one process that dies takes all others' work along,
and the user's main script is run again in each of them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

from edgeopt.child import Progress, environment_of, how_it_ended
from edgeopt.documents import encode_json
from edgeopt.errors import ChildError
from edgeopt.workflow.executors._base import ATTEMPTS, Answer, Closing, Order
from edgeopt.workflow.executors.worker import answer_of, cause_of

_WORKER = "edgeopt.workflow.executors.worker"


class _Lost(Exception):
    """A worker ended, or broke, in the middle of an order; the text says of what, where it could say so itself."""


class _Worker:
    """One process that carries out orders, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment_of([path for path in sys.path if path]),
            start_new_session=True,  # Ctrl-C is ours; we end it
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def answer(self, order: str) -> str:
        """Raises `_Lost` where the process ends before it has answered, or something unexpected befell it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except (OSError, ValueError) as error:
            raise _Lost from error
        if not answer.endswith("\n"):
            raise _Lost
        if cause := cause_of(answer):
            raise _Lost(cause)
        return answer

    def end(self) -> str:
        """End the process, if it has not ended by itself; how it did."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return how_it_ended(self._process.wait())


class Pool(Closing):
    """A pool of processes, each started when it is first needed and again when it is lost.

    Args:
        width: How many.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="edgeopt-pool")
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that were started so far and not lost."""
        return tuple(worker.pid for worker in self._workers)

    def submit(self, order: Order, on_progress: Progress | None = None) -> Future[Answer]:
        """Take an order; it begins as soon as a process is free."""
        if on_progress is not None:
            on_progress(f"{order.recipe.name}, in a process of the pool", 0.0)
        return self._threads.submit(self._answer, order)

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for worker in list(self._workers):
            worker.end()
        self._threads.shutdown(cancel_futures=True)

    def _answer(self, order: Order) -> Answer:
        text, cause = encode_json(order), ""
        for _ in range(ATTEMPTS):
            worker = self._free()
            try:
                answer = worker.answer(text)
            except _Lost as lost:
                self._workers.remove(worker)
                ended = worker.end()
                cause = str(lost) or ended
                continue
            self._idle.put(worker)
            return answer_of(answer)
        raise ChildError(f"{order.recipe.name}: took down its worker {ATTEMPTS} times ({cause}).", status="lost")

    def _free(self) -> _Worker:
        """A process that has nothing to do; there are never more of them than threads."""
        if self._closed:
            raise ChildError("the pool is closed.", status="lost")
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        worker = _Worker()
        self._workers.append(worker)
        return worker
