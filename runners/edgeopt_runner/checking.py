"""Job kind ``check``: is this model right and fast enough here to be active? What it measured goes with the answer.

The model is an object, or lies in the folder of a release: what a runtime builds beside the file (an engine of
TensorRT) is then there when an application loads it.
"""

import os
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner import conditions, correctness, latency, loading, measure, memory, raspberry, storage, watch
from edgeopt_runner.links import sha256_of
from edgeopt_runner.protocol import DIGEST_MISMATCH, MISSING_OBJECT, OK
from edgeopt_runner.protocol.samples import SampleFile
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.worker import Emit, Work, ended

MOST_SAMPLES = 2000
WARMUP_RUNS = 5
_DISTURBING = ("contended", "throttled", "swapped")


def run(root: str, job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """Do the job.

    Args:
        root: The runner's root.
        job: A job document: ``artifact``, ``golden``, ``settings``, ``min_cosine``, ``max_latency_ns`` (of the median,
            or null), ``runs``; with ``release: {app, number}`` the files are those in that release's folder.
        emit: Takes ``{"event": "phase", "phase": p}``, p one of ``import, load, golden, measure``.

    Returns:
        ``status``, ``detail`` and ``check``: ``passed, cosine, median_ns, reason``, and where the model was timed
        ``samples_ns``, ``memory_bytes`` (peak of the process) and ``disturbed`` (words, joined by commas).
    """
    work = Check(root, job, emit)
    return work.result(*ended(work))


class Check(Work):
    """Golden samples, timed inferences, golden samples again."""

    def __init__(self, root: str, job: Dict[str, Any], emit: Emit) -> None:
        super(Check, self).__init__(root, job, emit)
        self.check: Dict[str, Any] = {"passed": False, "cosine": 0.0, "median_ns": None, "reason": ""}
        release = job.get("release")
        self._folder = _release_folder(root, release) if release else None

    def golden(self) -> SampleFile:
        """The golden samples, of the release where there is one."""
        if self._folder is None:
            return super(Check, self).golden()
        return SampleFile(_verified(self._folder, "golden.npz", str(self.job["golden"])))

    def run(self) -> None:
        """All phases."""
        settings = self.job["settings"]
        self.phase("import")
        path = self._model()
        watching = watch.Watch()
        state = conditions.snapshot()
        try:
            loading.import_runtime(settings["runtime"])
            self.phase("load")
            session = self.keep(loading.load(path, settings, self.digest))
            self.phase("golden")
            before = self.compare(session)
            self.phase("measure")
            calls = loading.lanes(session, self.feeds(session), settings, self.digest)[0]
            disturbed = self._time(calls, state)
        finally:
            seen = watching.end()
        if watch.clocks_fell(watch.summary(seen.looks)):
            disturbed.append("clock_suspect")
        if (watch.summary(seen.looks)["pi_throttled"] or 0) & raspberry.LIVE_BITS and "throttled" not in disturbed:
            disturbed.append("throttled")
        self._judge(correctness.judge(before, self.compare(session)), disturbed)

    def _model(self) -> str:
        if self._folder is None:
            return loading.verified_artifact(self.root, self.job["artifact"])
        return _verified(self._folder, "model.%s" % self.job["artifact"]["format"], self.digest)

    def _time(self, calls: List[Callable[[], Any]], before: Dict[str, Any]) -> List[str]:
        """Time the calls; returns what disturbed them."""
        measure.timed_runs(calls, WARMUP_RUNS)
        ticks, started = conditions.cpu_times(), os.times()
        samples = measure.timed_runs(calls, max(1, int(self.job.get("runs") or 1)))
        now = os.times()
        own_seconds = now.user + now.system - started.user - started.system
        others = conditions.busy_share(ticks, conditions.cpu_times(), own_seconds)
        self.check["median_ns"] = int(latency.median(samples))
        self.check["samples_ns"] = samples[:MOST_SAMPLES]
        self.check["memory_bytes"] = memory.peak_bytes() or 0
        found = conditions.flags(before, conditions.snapshot(), None, others, False)
        return [flag for flag in found if flag in _DISTURBING]

    def _judge(self, judged: Dict[str, Any], disturbed: List[str]) -> None:
        reason, limit_ns, median_ns = judged["reason"], self.job.get("max_latency_ns"), self.check["median_ns"]
        if not reason and limit_ns is not None and median_ns > limit_ns:
            reason = "median %.3f ms, more than %.3f ms" % (median_ns / 1e6, limit_ns / 1e6)
        self.check.update(passed=not reason, cosine=judged["cosine"], reason=reason, disturbed=",".join(disturbed))

    def result(self, status: str, detail: str) -> Dict[str, Any]:
        """The result's fields."""
        if status != OK:
            self.check = dict(self.check, passed=False, reason=detail)
        return {"status": status, "detail": detail, "check": self.check}


def _release_folder(root: str, release: Any) -> str:
    """The folder of a numbered release of an app."""
    app, number = release["app"], int(release["number"])
    return os.path.join(storage.app_folder(root, app), "releases", str(number))


def _verified(folder: str, name: str, digest: str) -> str:
    """Path of a file of a release, after its digest was checked.

    Raises:
        Refusal: ``missing_object`` or ``digest_mismatch``.
    """
    path = os.path.join(folder, name)
    found: Optional[str] = sha256_of(path) if os.path.isfile(path) else None
    if found is None:
        raise Refusal(MISSING_OBJECT, "%s is not in the release" % name, "Deploy it again.")
    if found != digest:
        raise Refusal(DIGEST_MISMATCH, "%s has the digest %s, not %s" % (name, found, digest), "Deploy it again.")
    return path
