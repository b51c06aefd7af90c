"""What a job document must be like before anything is done for it; the fields are told in the package `protocol`."""

from typing import Any, Dict, List

from edgeopt_runner import cpu, storage
from edgeopt_runner.protocol import BAD_REQUEST, MISSING_OBJECT
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.work import KINDS

IN_SUPERVISOR = ("activate", "rollback", "update", "recheck", "return")
"""Kinds that the supervisor does itself, with workers for the checks."""

THREADS_PER_CPU = 4
LARGEST_BATCH = 4096
LARGEST_SLOT_BYTES = 1 << 28
MOST_LAYERS = 256
SETTINGS = frozenset("runtime threads graph_optimisation spinning inter_op sessions batch precision provider".split())
"""Every setting that this runner obeys; one that it does not know would be ignored, and the figures be wrong."""

_RUNS_A_MODEL = ("measure", "activate", "check", "pipeline")
_HAS_SETTINGS = (*_RUNS_A_MODEL, "layers")


def check(root: str, job: Dict[str, Any]) -> str:
    """Let only a sound job pass whose objects are here; returns its identifier.

    Raises:
        Refusal: ``bad_request`` or ``missing_object``.
    """
    job_id = storage.check_identifier(job.get("job_id"))
    storage.check_identifier(job.get("nonce"), "nonce")
    kind = str(job.get("kind"))
    if kind not in KINDS and kind not in IN_SUPERVISOR:
        known = ", ".join(sorted(KINDS) + sorted(IN_SUPERVISOR))
        raise Refusal(BAD_REQUEST, "kind is %.80r" % kind, "This runner knows %s; push a newer one." % known)
    check_owner(job.get("owner"))
    check_limits(job.get("limits", {}))
    if kind in IN_SUPERVISOR:
        storage.check_app(job.get("app"))
        _check_order(job, kind)
    if kind in _HAS_SETTINGS:
        check_settings(job.get("settings"))
        _check_plan(job.get("plan"), job["settings"])
    if kind == "layers":
        _check_layers(job)
    if kind == "pipeline":
        _check_stages(job)
    if kind == "rebuild":
        _check_rebuild(job)
    missing = storage.missing_objects(root, _objects_of(job, kind))
    if missing:
        raise Refusal(MISSING_OBJECT, "the job needs %s" % ", ".join(missing), "Push it and submit the job again.")
    return job_id


def _check_order(job: Dict[str, Any], kind: str) -> None:
    """Orders of a rollout bear its fence; one that updates says which release, and for which profile."""
    from edgeopt_runner.updates import order

    if kind == "update":
        order.read(job)
        order.flag(job.get("golden", False), "golden")
        if job.get("commit", "local") != "local":
            raise Refusal(BAD_REQUEST, "commit is %.80r" % (job.get("commit"),), "A board commits by itself: local.")
    if kind in ("recheck", "return"):
        order.fence(job.get("fence", 0))
    if kind == "return" and job.get("to_manifest"):
        storage.check_digest(job["to_manifest"], "to_manifest")


def check_owner(owner: Any) -> None:
    """Refuse an owner that does not say who it is. Raises Refusal."""
    if not isinstance(owner, dict) or not all(isinstance(owner.get(k), str) for k in ("owner", "host", "reason")):
        raise Refusal(BAD_REQUEST, "owner is %.80r" % (owner,), "Send owner, host and reason.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_limits(limits: Any) -> None:
    """Refuse deadlines and a limit of memory that are none. Raises Refusal."""
    deadlines = limits.get("deadline_seconds") or {} if isinstance(limits, dict) else None
    if not isinstance(deadlines, dict) or not all(_is_number(v) and v > 0 for v in deadlines.values()):
        raise Refusal(BAD_REQUEST, "limits are %.80r" % (limits,), "Deadlines are positive seconds by phase.")
    memory_bytes = limits.get("memory_bytes")
    if memory_bytes is not None and not (_is_number(memory_bytes) and memory_bytes > 0):
        raise Refusal(BAD_REQUEST, "memory_bytes is %.80r" % (memory_bytes,), "Send a positive number, or null.")


def check_settings(settings: Any) -> None:
    """Refuse, above all, a number of threads that would bring the board to its knees. Raises Refusal."""
    if not isinstance(settings, dict):
        raise Refusal(BAD_REQUEST, "settings are %.80r" % (settings,), "Send an object.")
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        known = ", ".join(sorted(SETTINGS))
        raise Refusal(
            BAD_REQUEST, "unknown setting %.80r" % unknown[0], "This runner knows %s; push a newer one." % known
        )
    most = THREADS_PER_CPU * len(cpu.allowed_cpus())
    for name, limit in (("threads", most), ("inter_op", most), ("sessions", most), ("batch", LARGEST_BATCH)):
        value = settings.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            remedy = "This board takes whole numbers from 1 to %d." % limit
            raise Refusal(BAD_REQUEST, "%s is %.80r" % (name, value), remedy)
    busy = settings.get("sessions", 1) * max(settings.get("threads", 1), settings.get("inter_op", 1))
    if busy > most:
        raise Refusal(BAD_REQUEST, "sessions and threads make %d threads" % busy, "This board takes %d at most." % most)


def _check_plan(plan: Any, settings: Dict[str, Any]) -> None:
    """Frames that arrive at a pace are taken one after the other."""
    if isinstance(plan, dict) and plan.get("target_fps") and settings.get("sessions", 1) > 1:
        sessions = settings["sessions"]
        raise Refusal(BAD_REQUEST, "a paced plan with %d sessions" % sessions, "Pace one session, or load all of them.")


def _check_stages(job: Dict[str, Any]) -> None:
    """A pipeline is of two stages or more, with a size for each edge, and no more threads than the board takes."""
    stages, slots, threads = job.get("stages"), job.get("slot_bytes"), job["settings"].get("threads", 1)
    most = THREADS_PER_CPU * len(cpu.allowed_cpus())
    if not isinstance(stages, list) or not all(isinstance(one, dict) and "gives" in one for one in stages):
        raise Refusal(BAD_REQUEST, "stages are %.80r" % (stages,), "Send a list of files, each with what it gives.")
    if not 2 <= len(stages) or len(stages) * threads > most:
        text = "%d stages of %d threads" % (len(stages), threads)
        raise Refusal(BAD_REQUEST, text, "This board takes 2 stages or more, and %d threads at most." % most)
    if not isinstance(slots, list) or len(slots) != len(stages) + 1 or not all(_is_size(size) for size in slots):
        raise Refusal(BAD_REQUEST, "slot_bytes is %.80r" % (slots,), "Send a number of bytes for every edge.")


def _check_layers(job: Dict[str, Any]) -> None:
    """Networks are a list of files, each with its golden samples, and measured without the evaluation samples."""
    layers, plan = job.get("layers"), job.get("plan")
    if not isinstance(layers, list) or not all(isinstance(one, dict) and "golden" in one for one in layers):
        raise Refusal(BAD_REQUEST, "layers are %.80r" % (layers,), "Send a list of files, each with its golden.")
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise Refusal(BAD_REQUEST, "%d layers" % len(layers), "Send 1 to %d in a job." % MOST_LAYERS)
    if not isinstance(plan, dict) or plan.get("evaluate"):
        raise Refusal(BAD_REQUEST, "plan is %.80r" % (plan,), "Send a plan that does not evaluate.")


def _check_rebuild(job: Dict[str, Any]) -> None:
    """Three digests, of which the base's may be left out, and a size."""
    for name in ("patch", "result") + (("base",) if job.get("base") is not None else ()):
        storage.check_digest(job.get(name), name)
    size = job.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Refusal(BAD_REQUEST, "size is %.80r" % (size,), "Send the bytes that the result has.")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_SLOT_BYTES


def _objects_of(job: Dict[str, Any], kind: str) -> List[str]:
    """Digests of the objects that a job works with."""
    if kind == "update":
        return [job["manifest"]]
    artifacts: List[Any] = [job.get("artifact")] if job.get("artifact") is not None or kind in _RUNS_A_MODEL else []
    artifacts += job.get("stages") or [] if kind == "pipeline" else []
    layers: List[Any] = job["layers"] if kind == "layers" else []
    artifacts += layers
    try:
        digests = [entry["sha256"] for entry in artifacts + list(job.get("wheels") or [])]
    except (TypeError, KeyError):
        raise Refusal(BAD_REQUEST, "artifact or wheels without sha256", "Send sha256 with each.")
    digests += [layer["golden"] for layer in layers]
    return digests + [job[key] for key in ("golden", "evaluation", "patch") if job.get(key) is not None]
