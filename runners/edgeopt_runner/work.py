"""The worker process: runs one job, or one check of a job, and reports by frames on a descriptor of its own.

Its stdout and stderr belong to the runtime, which prints what it likes there.
"""

import importlib
import os
from typing import Any, BinaryIO, Callable, Dict

from edgeopt_runner import compiled, confinement, faults, processes, storage
from edgeopt_runner.protocol import ERROR, OK, OOM, frames
from edgeopt_runner.refusals import refusal_of

Emit = Callable[[Dict[str, Any]], None]

KINDS = {
    "measure": "edgeopt_runner.worker:run",
    "check": "edgeopt_runner.checking:run",
    "layers": "edgeopt_runner.layers:run",
    "pipeline": "edgeopt_runner.pipeline_job:run",
    "provision": "edgeopt_runner.environment:install",
    "rebuild": "edgeopt_runner.rebuilding:rebuild",
    "rehearse": "edgeopt_runner.work:rehearse",
}
"""What runs in a guarded worker, by kind of job."""


def rehearse(_root: str, _job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """A job without a model: shows that submitting, supervising and reporting work on this board."""
    for phase in ("import", "load", "measure"):
        emit({"event": "phase", "phase": phase})
    return {"status": OK, "detail": "nothing to do but the way there and back"}


def work(root: str, job_id: str, document: str, events_descriptor: int, parent: int) -> int:
    """Entry of the worker.

    Args:
        root: The runner's root.
        job_id: The job.
        document: Name of the file in the job's folder that orders the work.
        events_descriptor: Where the frames ``{"event": "phase", ...}`` and ``{"event": "result", ...}`` go.
        parent: Pid of the supervisor, with which the worker ends.
    """
    processes.settle_as_worker(parent)
    os.set_inheritable(events_descriptor, False)
    compiled.keep(processes.bundle())
    job = storage.read_json(os.path.join(storage.job_folder(root, job_id), document))
    confinement.confine(job.get("limits") or {})
    with os.fdopen(events_descriptor, "wb") as events:
        result = _run(root, job, _emitter(events))
        try:
            frames.write(events, {"event": "result", "result": result})
        except ValueError as error:
            result = {"status": ERROR, "detail": "the result cannot be sent: %s" % error}
            frames.write(events, {"event": "result", "result": result})
    return 0


def _emitter(events: BinaryIO) -> Emit:
    def emit(event: Dict[str, Any]) -> None:
        frames.write(events, event)
        faults.point("work.phase", match=str(event.get("phase", "")))

    return emit


def _run(root: str, job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """The kind's function on the job; whatever it raises becomes a result that names it."""
    kind = str(job.get("kind"))
    try:
        faults.point("work.start", match=kind)
        module_name, _, name = KINDS[kind].partition(":")
        function = getattr(importlib.import_module(module_name), name)
        arguments = (root, job) if kind == "provision" else (root, job, emit)
        result: Dict[str, Any] = function(*arguments)
    except MemoryError:
        return {"status": OOM, "detail": "the interpreter could not allocate memory"}
    except Exception as error:  # the rim: nothing above could name it better
        refusal = refusal_of(error)
        return {"status": refusal.code, "detail": refusal.message}
    return result
