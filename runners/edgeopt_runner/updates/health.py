"""How a release does on this board: launches of it in guarded workers, their figures together, and the verdict.

New and old take turns (new, old, old, new), so that a board that warms up meanwhile slows both alike.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from edgeopt_runner import protocol
from edgeopt_runner.latency import median, percentile
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import ReleaseStore

Check = Callable[[Dict[str, Any]], Dict[str, Any]]
"""Runs a ``check`` job in a guarded worker and returns its result document."""

LEAST_RUNS = 10
_PASSED_ON = (protocol.CANCELLED, protocol.DISK_FULL, protocol.READ_ONLY)
"""Ends of a worker that say nothing about the model."""

_STARVED = (protocol.MEMORY_GUARD, protocol.OOM, protocol.PROCESS_GUARD, protocol.TIMEOUT)
"""Ends for want of memory, processes or time: enough to keep a new release out, and no proof against one that ran."""

Launch = NamedTuple(
    "Launch", [("cosine", float), ("samples_ns", List[int]), ("memory_bytes", int), ("disturbed", List[str])]
)
"""One launch of a release that gave right outputs."""


class Starved(Refusal):
    """A launch that the board had no room or time for."""


def launch(store: ReleaseStore, number: int, check: Check, limits: Any, runs: int = 0) -> Launch:
    """Run a release on its golden inputs, once, in a worker of its own.

    Args:
        store: The app.
        number: The release.
        check: Runs the worker.
        limits: Of the job that asks, for the guard.
        runs: Timed inferences; 0: as many as its manifest says.

    Raises:
        Starved: ``health_failed`` for want of memory, processes or time.
        Refusal: It does not run right (``health_failed``), or the job was cancelled.
    """
    result = check(check_job(store, number, limits, runs))
    status, found = str(result.get("status")), result.get("check") or {}
    where = "release %d of %s" % (number, store.name)
    if status in _PASSED_ON:
        raise Refusal(status, "%s while %s was checked: %s" % (status, where, result.get("detail") or ""))
    if status != protocol.OK:
        reason = "%s: %s" % (status, result.get("detail") or "no more is known")
        kind = Starved if status.partition(":")[0] in _STARVED else Refusal
        raise kind(protocol.HEALTH_FAILED, "%s is not healthy: %s" % (where, reason))
    if not found.get("passed"):
        reason = found.get("reason") or "its outputs are not right"
        raise Refusal(protocol.HEALTH_FAILED, "%s is not healthy: %s" % (where, reason))
    samples = found.get("samples_ns") or [int(found.get("median_ns") or 0)]
    disturbed = [word for word in str(found.get("disturbed") or "").split(",") if word]
    return Launch(float(found.get("cosine") or 0.0), samples, int(found.get("memory_bytes") or 0), disturbed)


def check_job(store: ReleaseStore, number: int, limits: Any, runs: int = 0) -> Dict[str, Any]:
    """The ``check`` job of a release that lies in its folder."""
    manifest = store.manifest(number)
    model, health = manifest["files"]["model"], manifest["health"]
    return {
        "kind": "check",
        "release": {"app": store.name, "number": number},
        "artifact": {"sha256": model["sha256"], "size": model["size"], "format": manifest["format"]},
        "golden": manifest["files"]["golden"]["sha256"],
        "settings": manifest["settings"],
        "min_cosine": health.get("min_cosine"),
        "max_latency_ns": health.get("max_latency_ns"),
        "runs": runs or health.get("runs") or 1,
        "limits": limits,
    }


def words(seen: Launch) -> str:
    """A launch for people."""
    return "cosine %.6f, median %.3f ms" % (seen.cosine, median(seen.samples_ns) / 1e6)


def figures(launches: Sequence[Launch]) -> Optional[Dict[str, Any]]:
    """The fields of `edgeopt.core.release.HealthFigures` over all launches; ``None`` where there are none."""
    if not launches:
        return None
    samples = [sample for one in launches for sample in one.samples_ns]
    return {
        "median_ns": int(median(samples)),
        "p95_ns": int(percentile(samples, 95)),
        "memory_bytes": max(one.memory_bytes for one in launches),
        "cosine": min(one.cosine for one in launches),
        "runs": len(samples),
        "disturbed": ",".join(sorted({word for one in launches for word in one.disturbed})),
    }


def breach(found: Dict[str, Any], max_p95_ns: Optional[int], max_memory_bytes: Optional[int]) -> str:
    """The limit that figures break, in words; empty where they keep all."""
    if max_p95_ns is not None and found["p95_ns"] > max_p95_ns:
        return "p95 %.3f ms, more than the %.3f ms allowed" % (found["p95_ns"] / 1e6, max_p95_ns / 1e6)
    if max_memory_bytes is not None and found["memory_bytes"] > max_memory_bytes:
        values = (found["memory_bytes"] / 2.0**20, max_memory_bytes / 2.0**20)
        return "%.1f MiB of memory, more than the %.1f MiB allowed" % values
    return ""


def judge(found: Dict[str, Any], manifest: Dict[str, Any]) -> None:
    """Hold figures against the limits of a release.

    A limit that is kept although the board was disturbed is kept all the more; one that is broken then says nothing,
    which is enough to go back to a release that ran here before: to wait for a quiet board would keep what is worse.

    Args:
        found: `figures` of the release.
        manifest: The board's own manifest of it.

    Raises:
        Refusal: ``health_failed``, or ``inconclusive`` where something disturbed the board.
    """
    health = manifest["health"]
    what = breach(found, health.get("max_p95_ns"), health.get("max_memory_bytes"))
    if not what or (found["disturbed"] and manifest.get("restores")):
        return
    where = "release %s: %s" % (manifest.get("version") or manifest["release"], what)
    if found["disturbed"]:
        message = "%s, but the board was disturbed (%s)" % (where, found["disturbed"])
        raise Refusal(protocol.INCONCLUSIVE, message, "Try again when the board is cool and quiet.")
    raise Refusal(protocol.HEALTH_FAILED, where, "Look at the figures; publish a release that fits this board.")


def runs_each(manifest: Dict[str, Any], launches: int) -> int:
    """Timed inferences of each of several launches that make up the runs of the manifest together."""
    return max(LEAST_RUNS, -(-int(manifest["health"].get("runs") or 1) // launches))


def turns(cheap: bool) -> Tuple[str, ...]:
    """Who is launched after the first launch of the new one."""
    return ("old", "old", "new") if cheap else ("old",)
