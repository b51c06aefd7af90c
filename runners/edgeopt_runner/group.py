"""Several sessions of one model as one: a request goes to whichever is free, one of many rows is split over all.

Threads of one process rather than processes: runtimes let go of the interpreter's lock while they compute, inputs and
outputs need not be copied, and the runtime is in memory once. Models of a few microseconds are held up by the lock,
which the measurement shows.
"""

import functools
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Sequence, Tuple

from edgeopt_runner.engines import Engine, LoadFailed, RunFailed, Session

Feeds = Dict[str, Any]


def load(engine: Engine, path: str, settings: Dict[str, Any]) -> Session:
    """The model as often as the settings say; a plain session where that is once, one sample at a time.

    Raises:
        EngineMissing, LoadFailed: As `Engine.load`; also where the model's inputs do not allow a batch.
    """
    count, batch = settings.get("sessions", 1), settings.get("batch", 1)
    loaded: List[Session] = []
    try:
        for _ in range(count):
            loaded.append(engine.load(path, settings))
        if batch > 1 and loaded[0].rows is None:
            raise LoadFailed("batch is %r, but inputs and outputs of this model share no first dimension" % (batch,))
    except BaseException:
        for session in loaded:
            session.close()
        raise
    return loaded[0] if count == 1 and batch == 1 else Group(loaded)


def join(feeds: Sequence[Feeds]) -> Feeds:
    """One request of several: arrays joined along their first dimension, in order."""
    import numpy as np

    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


class Group(Session):
    """Sessions of the same model; threads may share it.

    Args:
        sessions: At least one.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = list(sessions)
        self.inputs, self.outputs, self.rows = sessions[0].inputs, sessions[0].outputs, sessions[0].rows
        self._free: Any = queue.Queue()
        for session in sessions:
            self._free.put(session)
        self._pool = ThreadPoolExecutor(max(1, len(self.sessions) - 1))

    def prepare(self, feeds: Feeds) -> Callable[[], Any]:
        """The whole way of a request: choosing a session, or splitting, running and joining."""
        if len(self.sessions) == 1 and self._fits(feeds):
            return self.sessions[0].prepare(feeds)
        return functools.partial(self.run, dict(feeds))

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name, rows in the order of the feeds' rows."""
        parts = self._split(feeds)
        others = [self._pool.submit(self._run_part, part) for part in parts[1:]]
        first = self._run_part(parts[0])
        return join([first] + [other.result() for other in others]) if others else first

    def _split(self, feeds: Feeds) -> List[Feeds]:
        """Contiguous parts, as even as can be, one a session at most."""
        at_once, rows = self.rows or 1, _rows_of(feeds)
        if self.rows is not None and rows % at_once:
            raise RunFailed("%d rows cannot be split: the model takes %d at once" % (rows, at_once))
        requests = rows // at_once if self.rows is not None else 1
        parts = min(len(self.sessions), requests)
        if parts < 2:
            return [feeds]
        bounds = [requests * number // parts * at_once for number in range(parts)] + [rows]
        return [_slice(feeds, (bounds[number], bounds[number + 1])) for number in range(parts)]

    def _run_part(self, feeds: Feeds) -> Feeds:
        session = self._free.get()
        try:
            if self._fits(feeds):
                outputs: Feeds = session.run(feeds)
                return outputs
            at_once = self.rows or 1
            starts = range(0, _rows_of(feeds), at_once)
            return join([session.run(_slice(feeds, (start, start + at_once))) for start in starts])
        finally:
            self._free.put(session)

    def _fits(self, feeds: Feeds) -> bool:
        """Whether a session takes these rows at once."""
        return not self.rows or _rows_of(feeds) == self.rows

    def placement(self) -> Dict[str, int]:
        """That of each session, which is the same."""
        return self.sessions[0].placement()

    def close(self) -> None:
        """Close all sessions."""
        self._pool.shutdown()
        for session in self.sessions:
            session.close()


def _rows_of(feeds: Feeds) -> int:
    return min((len(array) if array.ndim else 1 for array in feeds.values()), default=1)


def _slice(feeds: Feeds, span: Tuple[int, int]) -> Feeds:
    return {name: array[span[0] : span[1]] for name, array in feeds.items()}
