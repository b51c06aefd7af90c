"""The worker: measures one variant with one setting under one plan; `checking` is its like for activation.

One fresh process a job. The order of the phases matters: memory of the run is read before golden outputs are compared
again and before the evaluation set is run, and so is the board's state (facts: measurement §5.1).
"""

import os
import re
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from edgeopt_runner import (
    accuracy,
    conditions,
    correctness,
    engines,
    loading,
    measure,
    memory,
    probe,
    rails,
    raspberry,
    thermal,
    varied,
    watch,
)
from edgeopt_runner.protocol import ERROR, LOAD_FAILED, OK, OOM, RUNNER_VERSION, RUNTIME_MISSING
from edgeopt_runner.protocol.samples import SampleFile, SampleFileError
from edgeopt_runner.refusals import refusal_of

Emit = Callable[[Dict[str, Any]], None]

EVALUATION = "the evaluation set"
_NO_MEMORY = re.compile(r"(fail|unable|could not|cannot)\w* to alloc|out of memory|bad.?alloc", re.IGNORECASE)


def run(root: str, job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """Do a job of kind ``measure``.

    Args:
        root: The runner's root, with the job's objects in it.
        job: The job document (`edgeopt_runner.protocol`).
        emit: Takes ``{"event": "phase", "phase": p}``, p one of ``preflight, import, load, first, golden, warmup,
            measure, evaluate, evidence``.

    Returns:
        ``status``, ``detail``, ``measurement`` (as far as it got) and, with metric ``outputs``, ``outputs``.
    """
    work = MeasureWork(root, job, emit)
    return work.result(*ended(work))


def ended(work: "Work") -> Tuple[str, str]:
    """Do the work and close its model; how it ended, and one sentence on what is not ``ok``."""
    status, detail = OK, ""
    try:
        work.run()
    except engines.EngineMissing as error:
        status, detail = RUNTIME_MISSING, str(error)
    except engines.LoadFailed as error:
        status, detail = _short_of_memory(error) or LOAD_FAILED, str(error)
    except MemoryError:
        status, detail = OOM, "the interpreter could not allocate memory"
    except (engines.RunFailed, SampleFileError, accuracy.EvaluationError) as error:
        status, detail = _short_of_memory(error) or ERROR, str(error)
    except Exception as error:  # the rim: what is known so far must reach the host
        refusal = refusal_of(error)
        status, detail = refusal.code, refusal.message
    finally:
        work.close()
    return status, detail


def _short_of_memory(error: Exception) -> str:
    """``oom`` where a runtime's own words say that it got no memory, else nothing: no runtime has a class for that."""
    return OOM if _NO_MEMORY.search(str(error)) else ""


class Work:
    """What measuring and checking share: the loaded model and its golden samples."""

    def __init__(self, root: str, job: Dict[str, Any], emit: Emit) -> None:
        self.root = root
        self.job = job
        self.digest = str(job["artifact"]["sha256"])
        self._emit = emit
        self._session: Optional[engines.Session] = None

    def phase(self, name: str) -> None:
        """Tell the supervisor where we are."""
        self._emit({"event": "phase", "phase": name})

    def golden(self) -> SampleFile:
        """The golden samples."""
        return SampleFile(loading.object_of(self.root, self.job["golden"], "the golden file"))

    def compare(self, session: engines.Session) -> correctness.Comparison:
        """The golden samples against their references, one by one and, where requests are batches, together."""
        least, batch = float(self.job.get("min_cosine") or -1.0), self.job["settings"].get("batch", 1)
        alone = correctness.compare(session, self.golden(), least)
        if batch == 1 or alone.reason:
            return alone
        together = correctness.compare_batch(session, self.golden(), batch, least)
        return min((together, alone), key=lambda found: (not found.reason, found.cosine))

    def feeds(self, session: engines.Session) -> List[Dict[str, Any]]:
        """The requests to time: where they do not take equally long, as many kinds of them as there are."""
        if self.job.get("by_input") and self.job["settings"].get("batch", 1) == 1:
            given = self.job.get("evaluation")
            samples = self.golden() if given is None else SampleFile(loading.object_of(self.root, given, EVALUATION))
            return varied.input_buffers(samples, session)
        return loading.input_buffers(self.golden(), session, self.job["settings"].get("batch", 1))

    def keep(self, session: engines.Session) -> engines.Session:
        """Remember the session, to close it however the job ends."""
        self._session = session
        return session

    def run(self) -> None:
        """All phases."""
        raise NotImplementedError

    def result(self, status: str, detail: str) -> Dict[str, Any]:
        """The result's fields, with everything that is known."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._session is not None:
            self._session.close()


def board_before(root: str, job: Dict[str, Any]) -> Dict[str, Any]:
    """Know the board, let it cool down and quieten: ``fingerprint``, ``cool_down`` and ``idle_share``."""
    plan = job["plan"]
    return {
        "fingerprint": probe.probe(root)["fingerprint"],
        "cool_down": thermal.cool_down(job.get("max_start_celsius"), float(plan["cooldown_seconds"])),
        "idle_share": conditions.idle_share(quick=plan["name"] == "quick"),
    }


def _runs(measured: measure.Measured, seconds: float) -> int:
    """How many inferences the measured phase had."""
    if measured.rate is not None:
        return int(measured.rate * seconds)
    return len(measured.latency["samples_ns"])


class MeasureWork(Work):
    """Kind ``measure``: the phases of a measurement, its record filled as they end."""

    def __init__(self, root: str, job: Dict[str, Any], emit: Emit) -> None:
        super(MeasureWork, self).__init__(root, job, emit)
        self.plan = job["plan"]
        self.phases_ns: Dict[str, int] = {}
        self.peaks: Dict[str, Optional[int]] = {}
        self.evidence: Dict[str, Any] = {}
        self.flags: List[str] = []
        self.found: Dict[str, Any] = {}
        self.outputs: Optional[Dict[str, Any]] = None
        self.started_at = time.time()
        self.timed = (0.0, 0.0, 0)

    def run(self) -> None:
        """All phases."""
        path = self._preflight()
        watching = watch.Watch()
        try:
            session = self.load(path)
            before = self.first(session)
            self.time(session)
        finally:
            seen = watching.end()
        self.judge(seen)
        self.found["correctness"] = correctness.judge(before, self.compare(session))
        if self.plan.get("evaluate") and self.job.get("evaluation"):
            self._evaluate(session)
        self.phase("evidence")
        self.found["placement"] = session.placement()

    def _preflight(self) -> str:
        """Verify the model, know the board, let it cool down and quieten, and look at it; the model's path."""
        self.phase("preflight")
        path = loading.verified_artifact(self.root, self.job["artifact"])
        self.take(board_before(self.root, self.job))
        self.evidence["before"] = conditions.snapshot()
        return path

    def take(self, board: Dict[str, Any]) -> None:
        """Note what `board_before` found."""
        self.found["device_fingerprint"] = board["fingerprint"]
        self.evidence.update(cool_down=board["cool_down"], idle_share=board["idle_share"])

    def load(self, path: str) -> engines.Session:
        """Import the runtime and load the model."""
        settings = self.job["settings"]
        self.phase("import")
        self.evidence["memory_reset"] = memory.reset_peak()
        start = measure.clock_ns()
        runtime = loading.import_runtime(settings["runtime"])
        self._phase_done("import", start)
        self.found["runtime_version"] = runtime["version"]
        self.phase("load")
        memory.reset_peak()
        start = measure.clock_ns()
        session = self.keep(loading.load(path, settings, self.digest))
        self._phase_done("load", start)
        return session

    def _phase_done(self, name: str, start_ns: int) -> None:
        self.phases_ns[name] = measure.clock_ns() - start_ns
        self.peaks[name + "_bytes"] = memory.peak_bytes()

    def first(self, session: engines.Session) -> correctness.Comparison:
        """The first inference alone, then the golden samples."""
        self.phase("first")
        feeds = loading.input_buffers(self.golden(), session)[0]
        start = measure.clock_ns()
        session.run(feeds)
        self.phases_ns["first"] = measure.clock_ns() - start
        self.phase("golden")
        before = self.compare(session)
        self.found["correctness"] = correctness.judge(before, None)
        return before

    def time(self, session: engines.Session) -> None:
        """Warm-up and steady state, with memory and the board's state read at once after the last timed run."""
        lanes = loading.lanes(session, self.feeds(session), self.job["settings"], self.digest)
        self.phase("warmup")
        memory.reset_peak()
        warm = measure.warm_up([calls[number] for number in range(len(lanes[0])) for calls in lanes], self.plan)
        self.phase("measure")
        ticks = conditions.cpu_times()
        began = time.monotonic()
        measured = measure.measure(lanes[0], self.plan, warm.median_ns, lanes[1:])
        self.timed = (began, time.monotonic(), _runs(measured, time.monotonic() - began))
        others = conditions.busy_share(ticks, conditions.cpu_times(), measured.evidence["cpu_seconds"])
        self.peaks["run_bytes"] = memory.peak_bytes()
        self.peaks["pss_bytes"] = memory.proportional_bytes()
        before, after = self.evidence["before"], conditions.snapshot()
        self.found["latency"] = measured.latency
        if self.job.get("by_input"):
            seconds = float(self.plan.get("fixed_seconds") or self.plan["max_seconds"])
            self.found["latency"].update(varied.each(lanes[0], warm.median_ns, seconds))
        if measured.rate is not None:
            self.found["items_per_second"] = measured.rate * self.job["settings"].get("batch", 1)
        self.evidence.update(measured.evidence, after=after, others_share=others, warmup_runs=warm.runs)
        self.evidence["difference"] = conditions.differences(before, after)
        hot = self.evidence["cool_down"]["hot"]
        self.flags = measured.flags + conditions.flags(before, after, self.evidence["idle_share"], others, hot)
        if warm.capped:
            self.flags.append("warmup_capped")

    def judge(self, seen: watch.Seen) -> None:
        """What was seen from outside while the model was timed: memory that went, clocks that fell, energy."""
        start = self.evidence["before"]["memory_available_bytes"]
        if seen.lowest_bytes is not None and start is not None:
            self.peaks["available_drop_bytes"] = max(0, start - seen.lowest_bytes)
        began, ended, runs = self.timed
        found = watch.summary(seen.between(began, ended))
        self.evidence["watched"] = found
        steady = not self.plan.get("target_fps") and not self.plan.get("fixed_seconds")
        if steady and watch.clocks_fell(found):
            self.flags.append("clock_suspect")
        if (found["pi_throttled"] or 0) & raspberry.LIVE_BITS and "throttled" not in self.flags:
            self.flags.append("throttled")
        idle = self.evidence["before"]["power"]
        self.evidence["energy"] = rails.energy(idle, found["milliwatts"], ended - began, runs)

    def _evaluate(self, session: engines.Session) -> None:
        self.phase("evaluate")
        samples = SampleFile(loading.object_of(self.root, self.job["evaluation"], EVALUATION))
        if self.job["metric"] == accuracy.OUTPUTS:
            folder = os.path.join(self.root, "jobs", self.job["job_id"])
            self.outputs = accuracy.keep_outputs(session, samples, self.root, folder)
        else:
            self.found["accuracy"] = accuracy.evaluate(session, samples, self.job["metric"])

    def result(self, status: str, detail: str) -> Dict[str, Any]:
        """The result's fields, with everything that is known."""
        record: Dict[str, Any] = {
            "variant_digest": self.digest,
            "settings": self.job["settings"],
            "plan": self.plan,
            "device_fingerprint": "",
            "runtime_version": "",
            "runner": RUNNER_VERSION,
            "status": status,
            "detail": detail,
            "phases_ns": self.phases_ns,
            "memory": self.peaks or None,
            "evidence": self.evidence,
            "flags": self.flags,
            "started_at": self.started_at,
        }
        result = {"status": status, "detail": detail, "measurement": dict(record, **self.found)}
        return dict(result, outputs=self.outputs) if self.outputs else result
