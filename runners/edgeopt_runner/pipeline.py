"""A model's stages as a pipeline over processes: each loads one stage and hands its outputs on to the next.

Processes are forked before any runtime is imported, since none survives that. Each can crash by itself, and the kernel
gives it a core of its own where there is one.
"""

import functools
import os
import sys
import traceback
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence

from edgeopt_runner import engines, group, measure, processes
from edgeopt_runner.edges import SLOTS, Edge, EdgeClosed, Message
from edgeopt_runner.results import one_line

Feeds = Dict[str, Any]
Take = Callable[[Message, int], None]


class Stage:
    """One stage: its file, the settings it is run with, and the names of all that is handed on after it."""

    def __init__(self, path: str, settings: Dict[str, Any], gives: Sequence[str]) -> None:
        self.path = path
        self.settings = settings
        self.gives = list(gives)


class Pipeline:
    """Stages at work, for use in a ``with``: none of their processes is left behind.

    Args:
        stages: Front to back.
        slot_bytes: Most bytes of a message on each edge: into the first stage, between stages, out of the last.
    """

    def __init__(self, stages: Sequence[Stage], slot_bytes: Sequence[int]) -> None:
        self._edges = [Edge(size) for size in slot_bytes]
        self.pids: List[int] = []
        self._ended: Dict[int, int] = {}
        parent = os.getpid()
        for number, stage in enumerate(stages):
            self.pids.append(fork(functools.partial(self._serve, number, stage, parent)))
        for edge in self._edges[1:-1]:
            edge.close()
        self._first, self._last = self._edges[0], self._edges[-1]
        self._first.keep_writer()
        self._last.keep_reader()

    def _serve(self, number: int, stage: Stage, parent: int) -> None:
        processes.settle_as_worker(parent)
        for place, edge in enumerate(self._edges):
            if place not in (number, number + 1):
                edge.close()
        source, sink = self._edges[number], self._edges[number + 1]
        source.keep_reader()
        sink.keep_writer()
        try:
            _work(number, stage, source, sink)
        except EdgeClosed:
            pass  # the whole pipeline is being taken down

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: Any) -> None:
        for edge in self._edges:
            edge.close()
        for pid in self.pids:
            if pid not in self._ended:
                processes.kill(pid)
                os.waitpid(pid, 0)

    @property
    def depth(self) -> int:
        """Requests that fill the pipeline."""
        return SLOTS * len(self._edges) + len(self.pids)

    def run(self, feeds: Sequence[Feeds]) -> List[Feeds]:
        """Outputs of several requests, in their order.

        Raises:
            RunFailed: A stage failed, or its process ended.
        """
        found: List[Feeds] = []
        self.flow(feeds, lambda message, _: found.append({name: each.copy() for name, each in message.arrays.items()}))
        return found

    def flow(self, feeds: Iterable[Feeds], take: Take, most: Optional[int] = None) -> None:
        """Put requests in while there is room, and take what comes out, until all are through.

        Args:
            feeds: The requests; asked for one more whenever there is room for it.
            take: Called with each result, whose arrays are gone afterwards, and the nanoseconds since it went in.
            most: Requests on their way at once; as many as there is room for by default.

        Raises:
            RunFailed: A stage failed, or its process ended.
        """
        requests: Iterator[Feeds] = iter(feeds)
        waiting = next(requests, None)
        put_ns: List[int] = []
        done, limit, trouble = 0, most or self.depth, ""
        try:
            while waiting is not None or done < len(put_ns):
                if waiting is not None and len(put_ns) - done < limit and self._first.has_room():
                    put_ns.append(measure.clock_ns())
                    self._first.put(Message(len(put_ns) - 1, waiting))
                    waiting = next(requests, None)
                elif waiting is None or len(put_ns) - done >= limit or self._last.has_message():
                    found = self._take(done, take, put_ns[done])
                    trouble, done = trouble or found, done + 1
                    waiting = None if trouble else waiting
                else:
                    self._first.wait(self._last)
        except EdgeClosed:
            trouble = trouble or self._obituary()
        if trouble:
            raise engines.RunFailed(trouble)

    def _take(self, number: int, take: Take, put_ns: int) -> str:
        """Hear of one result; what is wrong with it, if anything."""
        message = self._last.get()
        trouble = message.error
        if not trouble and message.number != number:
            trouble = "request %d came out of the pipeline instead of %d" % (message.number, number)
        if not trouble:
            take(message, measure.clock_ns() - put_ns)
        self._last.release(message)
        return trouble

    def _obituary(self) -> str:
        """Which stage's process ended, and how."""
        for number, pid in enumerate(self.pids, 1):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ended[pid] = status
                how = processes.signal_name(status & 127) if status & 127 else "code %d" % (status >> 8)
                return "the process of stage %d ended with %s" % (number, how)
        return "the process of a stage closed its pipes"


def _work(number: int, stage: Stage, source: Edge, sink: Edge) -> None:
    """What a stage's process does: message by message, errors handed on in the place of outputs."""
    where = "stage %d: " % (number + 1)
    try:
        session = group.load(engines.engine(stage.settings["runtime"]), stage.path, stage.settings)
    except Exception as error:  # whatever it is, the other end has to hear it
        sink.put(Message(0, {}, error=where + one_line(str(error) or type(error).__name__)))
        return
    while True:
        message = source.get()
        outputs, trouble, start = dict(message.arrays), message.error, measure.clock_ns()
        if not trouble:
            try:
                outputs.update(session.run({name: message.arrays[name] for name in session.inputs}))
            except Exception as error:
                trouble = where + one_line(str(error) or type(error).__name__)
        busy_ns = message.busy_ns + [measure.clock_ns() - start]
        handed = {} if trouble else {name: outputs[name] for name in stage.gives}
        sink.put(Message(message.number, handed, busy_ns, trouble))
        source.release(message)


def fork(work: Callable[[], None]) -> int:
    """Do work in a child process, which ends with it; its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # nothing of the parent's must run in the child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
