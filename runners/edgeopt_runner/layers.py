"""Job kind ``layers``: many small networks measured one after the other in one worker.

A worker's start and its runtime's import take seconds, on a slow board half a minute, and timing a layer less than one.
What a `measure` looks at once is looked at once here too: the board's heat and quiet, and its clocks over all layers.
"""

from typing import Any, Callable, Dict, List, Tuple

from edgeopt_runner import conditions, correctness, engines, loading, watch, worker
from edgeopt_runner.protocol import OK, RUNTIME_MISSING

Emit = Callable[[Dict[str, Any]], None]

_SHARED = ("job_id", "settings", "plan", "min_cosine")


def run(root: str, job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """Do the job.

    Args:
        root: The runner's root, with the job's objects in it.
        job: The job document (`edgeopt_runner.protocol`).
        emit: Takes ``{"event": "phase", "phase": p}``; after ``preflight`` those of a ``measure`` for every network.

    Returns:
        ``status``, ``detail`` and ``layers``: a record of the fields of `edgeopt.core.measurement.Measurement` for each
        network, whose own ``status`` and ``detail`` say how it ended.
    """
    emit({"event": "phase", "phase": "preflight"})
    board = worker.board_before(root, job)
    watching = watch.Watch()
    try:
        emit({"event": "phase", "phase": "import"})
        loading.import_runtime(job["settings"]["runtime"])
        done = [_measured(_Layer(root, _order(job, layer), emit, board)) for layer in job["layers"]]
    except engines.EngineMissing as error:
        return {"status": RUNTIME_MISSING, "detail": str(error)}
    finally:
        seen = watching.end()
    return {"status": OK, "detail": "", "layers": _rows(done, seen)}


def _order(job: Dict[str, Any], layer: Dict[str, Any]) -> Dict[str, Any]:
    """The job as it would be for this network alone."""
    order = {name: job[name] for name in _SHARED if name in job}
    return dict(order, artifact=layer, golden=layer["golden"])


class _Layer(worker.MeasureWork):
    """The phases of one network; the runtime is there already."""

    def __init__(self, root: str, job: Dict[str, Any], emit: Emit, board: Dict[str, Any]) -> None:
        super(_Layer, self).__init__(root, job, emit)
        self.take(board)

    def run(self) -> None:
        """From loading to the second look at the golden samples."""
        path = loading.verified_artifact(self.root, self.job["artifact"])
        self.evidence["before"] = conditions.snapshot()
        session = self.load(path)
        before = self.first(session)
        if not before.reason:  # the time of a network that is wrong is of no use
            self.time(session)
            self.found["correctness"] = correctness.judge(before, self.compare(session))


_Done = Tuple[_Layer, str, str]


def _measured(layer: _Layer) -> _Done:
    return (layer, *worker.ended(layer))


def _rows(done: List[_Done], seen: watch.Seen) -> List[Dict[str, Any]]:
    """The records, each judged by what was seen while it was timed, and all by whether the clocks fell meanwhile."""
    timed = [layer for layer, _, _ in done if "latency" in layer.found]
    for layer in timed:
        layer.judge(seen)
    spans = [layer.timed for layer in timed]
    if spans and watch.clocks_fell(watch.summary(seen.between(spans[0][0], spans[-1][1]))):
        for layer in timed:
            layer.flags = sorted({"clock_suspect"}.union(layer.flags))
    return [layer.result(status, detail)["measurement"] for layer, status, detail in done]
