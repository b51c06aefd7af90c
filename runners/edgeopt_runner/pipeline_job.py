"""Job kind ``pipeline``: stages over processes against one session and as many sessions of the whole model, in turns.

Rounds of the three are interleaved, so that what the board does meanwhile hits all alike.
"""

import os
from typing import Any, Callable, Dict, Iterator, List

from edgeopt_runner import conditions, engines, latency, loading, measure, memory, thermal
from edgeopt_runner.board import THIS
from edgeopt_runner.edges import Message
from edgeopt_runner.pipeline import Feeds, Pipeline, Stage
from edgeopt_runner.protocol import ERROR, OK, metrics
from edgeopt_runner.protocol.samples import Sample, SampleFile
from edgeopt_runner.refusals import refusal_of
from edgeopt_runner.rivals import Sessions

Emit = Callable[[Dict[str, Any]], None]

ONE, SEVERAL, PIPELINE = "one session", "sessions", "pipeline"


def run(root: str, job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """Do the job.

    Returns:
        ``status``, ``detail`` and ``pipeline``: ``modes`` (``name, latency_ns, alone_ns, items_per_second, pss_bytes``,
        lists by round), ``stage_ns``, ``cosine``, ``max_abs`` and ``flags``.
    """
    work = _Work(root, job, emit)
    try:
        work.run()
    except Exception as error:  # the rim: the host must hear of it
        work.close()
        if isinstance(error, engines.RunFailed):
            return {"status": ERROR, "detail": str(error)}
        refusal = refusal_of(error)
        return {"status": refusal.code, "detail": refusal.message}
    work.close()
    return {"status": OK, "detail": "", "pipeline": work.found}


class _Work:
    """The processes of all three, and what their rounds found."""

    def __init__(self, root: str, job: Dict[str, Any], emit: Emit) -> None:
        self._root, self._job, self._emit = root, job, emit
        self._rivals: Dict[str, Sessions] = {}
        self._pipeline: Any = None
        self._modes: Dict[str, Dict[str, Any]] = {}
        self.found: Dict[str, Any] = {}

    def run(self) -> None:
        """All phases."""
        job, settings = self._job, self._job["settings"]
        self._phase("preflight")
        whole = loading.verified_artifact(self._root, job["artifact"])
        paths = [loading.verified_artifact(self._root, stage) for stage in job["stages"]]
        golden = SampleFile(loading.object_of(self._root, job["golden"], "the golden file"))
        samples = list(golden.read(loading.BUFFERS))
        feeds = [{name: sample.inputs[name].copy() for name in job["inputs"]} for sample in samples]
        thermal.cool_down(job.get("max_start_celsius"), 60.0)
        idle, before = conditions.idle_share(quick=True), conditions.snapshot()
        self._phase("load")
        self._start(whole, paths, feeds)
        self._phase("golden")
        self._compare(samples, feeds)
        self._phase("measure")
        order = [ONE, SEVERAL, PIPELINE]
        for number in range(int(job.get("rounds") or 3)):
            for name in order if number % 2 == 0 else order[::-1]:
                self._round(name, feeds, float(job.get("seconds") or 1.0))
        flags = conditions.flags(before, conditions.snapshot(), idle, None, False)
        self.found.update(modes=[dict(self._modes[name], name=name) for name in order], flags=flags)
        self.found["sessions"], self.found["settings"] = len(paths), settings

    def _phase(self, name: str) -> None:
        self._emit({"event": "phase", "phase": name})

    def _start(self, whole: str, paths: List[str], feeds: List[Feeds]) -> None:
        """Fork all processes; no runtime is imported in this one."""
        settings = dict(self._job["settings"], sessions=1, batch=1)
        gives = [stage["gives"] for stage in self._job["stages"]]
        stages = [Stage(path, settings, gives[number]) for number, path in enumerate(paths)]
        self._rivals[ONE] = Sessions(whole, settings, feeds)
        self._rivals[SEVERAL] = Sessions(whole, dict(settings, sessions=len(paths)), feeds)
        self._pipeline = Pipeline(stages, self._job["slot_bytes"])
        for name in (ONE, SEVERAL, PIPELINE):
            self._modes[name] = {"latency_ns": [], "items_per_second": [], "alone_ns": [], "pss_bytes": None}
        self.found["stage_ns"] = []

    def _compare(self, samples: List[Sample], feeds: List[Feeds]) -> None:
        """Outputs of the pipeline against the references, each in its place. Raises RunFailed where they are wrong."""
        outputs = self._pipeline.run(feeds)
        worst, largest = 1.0, 0.0
        for number, sample in enumerate(samples):
            worst = min(worst, metrics.cosine(sample.reference, outputs[number]))
            largest = max(largest, metrics.max_abs(sample.reference, outputs[number]))
        least = float(self._job.get("min_cosine") or -1.0)
        if worst < least:
            raise engines.RunFailed("the pipeline's outputs have cosine %.6f, less than %.6f" % (worst, least))
        self.found.update(cosine=worst, max_abs=largest)

    def _round(self, name: str, feeds: List[Feeds], seconds: float) -> None:
        mode = self._modes[name]
        if name == PIPELINE:
            self._round_of_pipeline(mode, feeds, seconds)
        else:
            found = self._rivals[name].measure(seconds)
            mode["latency_ns"].append(int(found["latency_ns"]))
            mode["items_per_second"].append(float(found["items_per_second"]))
        pids = self._pipeline.pids if name == PIPELINE else [self._rivals[name].pid]
        mode["pss_bytes"] = _proportional_bytes(pids)

    def _round_of_pipeline(self, mode: Dict[str, Any], feeds: List[Feeds], seconds: float) -> None:
        """One request at a time for a quarter of the time, then as many as there is room for."""
        alone = _Flow(feeds, seconds / 4)
        self._pipeline.flow(alone.requests(), alone.take, 1)
        full = _Flow(feeds, seconds)
        self._pipeline.flow(full.requests(), full.take)
        mode["alone_ns"].append(int(latency.median(alone.latencies_ns)))
        mode["latency_ns"].append(int(latency.median(full.latencies_ns)))
        mode["items_per_second"].append(full.rate(self._pipeline.depth))
        self.found["stage_ns"].append([int(latency.median(times)) for times in full.busy_ns])

    def close(self) -> None:
        """End all processes."""
        for rival in self._rivals.values():
            rival.close()
        if self._pipeline is not None:
            self._pipeline.__exit__()


class _Flow:
    """Requests for some seconds, with what came of each."""

    def __init__(self, feeds: List[Feeds], seconds: float) -> None:
        self._feeds = feeds
        self._seconds = seconds
        self._ends: List[int] = []
        self.latencies_ns: List[int] = []
        self.busy_ns: List[List[int]] = []

    def requests(self) -> Iterator[Feeds]:
        """The requests: for the time, and at least five."""
        until, count = measure.clock_ns() + int(self._seconds * 1e9), 0
        while measure.clock_ns() < until or count < measure.MIN_WARMUP_RUNS:
            yield self._feeds[count % len(self._feeds)]
            count += 1

    def take(self, message: Message, latency_ns: int) -> None:
        """Note a result."""
        self._ends.append(measure.clock_ns())
        self.latencies_ns.append(latency_ns)
        self.busy_ns = self.busy_ns or [[] for _ in message.busy_ns]
        for number, busy in enumerate(message.busy_ns):
            self.busy_ns[number].append(busy)

    def rate(self, depth: int) -> float:
        """Requests a second once the pipeline was full, and before it ran empty again."""
        skipped = min(depth, max(0, len(self._ends) - 3))
        ends = self._ends[skipped:]
        if len(ends) < 2:
            return 0.0
        return (len(ends) - 1) * 1e9 / max(1, ends[-1] - ends[0])


def _proportional_bytes(pids: List[int]) -> Any:
    """PSS of processes together; ``None`` where the kernel does not tell."""
    texts = [THIS.read(os.path.join("/proc", str(pid), "smaps_rollup")) for pid in pids]
    each = [memory.parse_kib_fields(text).get("Pss") for text in texts]
    known = [size for size in each if size is not None]
    return sum(known) if len(known) == len(each) else None
