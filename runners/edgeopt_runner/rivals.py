"""What a pipeline has to beat: sessions of the whole model in a process of their own, put under load when asked."""

import os
from typing import Any, Dict, List

from edgeopt_runner import engines, group, loading, measure, processes
from edgeopt_runner.pipeline import Feeds, fork
from edgeopt_runner.protocol import frames
from edgeopt_runner.refusals import refusal_of


def steady_plan(seconds: float) -> Dict[str, Any]:
    """A plan of exactly so many seconds, back to back."""
    times = ("min_seconds", "max_seconds", "fixed_seconds")
    plan: Dict[str, Any] = {name: seconds for name in times}
    plan.update(name="round", min_samples=1, window_seconds=seconds / 4, warmup_seconds=min(0.2, seconds / 4))
    return plan


class Sessions:
    """A child process with sessions of one model; forked before any runtime is imported.

    Args:
        path: The model.
        settings: With `sessions`, how many.
        feeds: Requests, cycled.
    """

    def __init__(self, path: str, settings: Dict[str, Any], feeds: List[Feeds]) -> None:
        orders_read, orders_write = os.pipe()
        answers_read, answers_write = os.pipe()
        parent = os.getpid()

        def serve() -> None:
            processes.settle_as_worker(parent)
            os.close(orders_write)
            os.close(answers_read)
            with os.fdopen(orders_read, "rb") as orders, os.fdopen(answers_write, "wb") as answers:
                _serve(path, settings, feeds, orders, answers)

        self.pid = fork(serve)
        os.close(orders_read)
        os.close(answers_write)
        self._orders = os.fdopen(orders_write, "wb")
        self._answers_stream = os.fdopen(answers_read, "rb")
        self._answers = frames.reader_of(self._answers_stream)

    def measure(self, seconds: float) -> Dict[str, Any]:
        """``latency_ns`` and ``items_per_second`` of one round.

        Raises:
            RunFailed: The model cannot be loaded or run, or its process ended.
        """
        try:
            frames.write(self._orders, {"seconds": seconds})
            answer = self._answers.next()
        except (BrokenPipeError, ValueError):
            answer = None
        if answer is None:
            raise engines.RunFailed("the process of the whole model ended")
        if "error" in answer:
            raise engines.RunFailed(str(answer["error"]))
        return dict(answer)

    def close(self) -> None:
        """End the process."""
        processes.kill(self.pid)
        os.waitpid(self.pid, 0)
        for stream in (self._orders, self._answers_stream):
            try:
                stream.close()
            except OSError:
                pass  # what was not sent cannot be


def _serve(path: str, settings: Dict[str, Any], feeds: List[Feeds], orders: Any, answers: Any) -> None:
    reader = frames.reader_of(orders)
    try:
        session = group.load(engines.engine(settings["runtime"]), path, settings)
        lanes = loading.lanes(session, feeds, settings, "")
        measure.timed_runs(lanes[0], measure.MIN_WARMUP_RUNS)
    except Exception as error:
        frames.write(answers, {"error": refusal_of(error).message})
        return
    while True:
        order = reader.next()
        if order is None:
            return
        try:
            expected_ns = float(min(measure.timed_runs(lanes[0], measure.MIN_WARMUP_RUNS)))
            found = measure.measure(lanes[0], steady_plan(float(order["seconds"])), expected_ns, lanes[1:])
            answer = {"latency_ns": found.latency["median_ns"], "items_per_second": found.rate}
        except Exception as error:
            answer = {"error": refusal_of(error).message}
        frames.write(answers, answer)
