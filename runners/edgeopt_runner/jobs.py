"""Jobs as the host sees them: submit, status, result, logs, cancel. All that is known lies in the job's folder.

``job.json`` (the order), ``state.json`` (who works on it and how far), ``heartbeat`` (monotonic seconds), ``log`` (what
the worker printed), ``supervisor.log``, ``result.json`` (the end). Files are replaced atomically, so anyone may ask.
"""

import os
import re
import signal
import subprocess
import sys
import time
from typing import Any, Dict

from edgeopt_runner import faults, job_document, offspring, processes, storage
from edgeopt_runner.protocol import CANCELLED, ERROR, LOST, NOT_DONE, REBOOTED, UNKNOWN_JOB
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.results import result_document

LOG_LIMIT_BYTES = 256 << 10
START_SECONDS = 60
CANCEL_SECONDS = 5.0
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def submit(root: str, job: Dict[str, Any]) -> Dict[str, Any]:
    """Write the job down and start a supervisor for it, unless one was started before.

    Returns:
        What `status` returns.

    Raises:
        Refusal: ``bad_request``, ``missing_object``, or ``error`` when the supervisor does not come up.
    """
    job_id = job_document.check(root, job)
    folder = storage.job_folder(root, job_id)
    if status(root, job_id)["state"] == "unknown":
        os.makedirs(folder, mode=0o700, exist_ok=True)
        storage.write_json(os.path.join(folder, "job.json"), job)
        faults.point("jobs.submitted", match=job_id)
        _start_supervisor(root, job_id, folder)
    return status(root, job_id)


def _start_supervisor(root: str, job_id: str, folder: str) -> None:
    """Start ``supervise``, which detaches itself and returns when its state is on disk."""
    command = processes.program(sys.executable) + ["supervise", "--root", root, "--job", job_id]
    log_path = os.path.join(folder, "supervisor.log")
    with open(log_path, "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if status(root, job_id)["state"] == "unknown":
        last_line = ([""] + _tail(log_path, 2000).splitlines())[-1]
        raise Refusal(ERROR, "the supervisor did not start: %s" % (last_line or "it said nothing"))


def status(root: str, job_id: str) -> Dict[str, Any]:
    """How a job stands (verb ``status``); one that no supervisor took up is ``unknown``: submit it again."""
    folder = storage.job_folder(root, job_id)
    result_path = os.path.join(folder, "result.json")
    state = storage.read_json(os.path.join(folder, "state.json"))
    name = str(state.get("state", "unknown"))
    if os.path.exists(result_path):
        name = "done"
    elif name in ("queued", "running") and not processes.alive(state.get("supervisor", {})):
        same_boot = state.get("supervisor", {}).get("boot_id") == processes.boot_id()
        # it may have finished between the two looks
        name = "done" if os.path.exists(result_path) else "lost" if same_boot else "rebooted"
    since = float(state.get("phase_since", 0.0))
    waits = str(state.get("waiting_for", "")) if name == "queued" else ""
    return {
        "state": name,
        "phase": str(state.get("phase", "")),
        "phase_seconds": max(0.0, time.monotonic() - since) if name in ("queued", "running") else 0.0,
        "heartbeat_seconds": _heartbeat_seconds(folder) if name in ("queued", "running") else 0.0,
        "waiting_for": waits,
    }


def _heartbeat_seconds(folder: str) -> float:
    try:
        with open(os.path.join(folder, "heartbeat")) as stream:
            return max(0.0, time.monotonic() - float(stream.read()))
    except (OSError, ValueError):
        return 0.0


def result(root: str, job_id: str) -> Dict[str, Any]:
    """The result document; for a job whose supervisor is gone, one that says ``lost`` or ``rebooted``.

    Raises:
        Refusal: ``unknown_job`` or ``not_done``.
    """
    folder = storage.job_folder(root, job_id)
    now = status(root, job_id)
    if now["state"] == "done":
        return storage.read_json(os.path.join(folder, "result.json"))
    if now["state"] in (LOST, REBOOTED):
        what = "the supervisor was killed" if now["state"] == LOST else "the device rebooted"
        detail = "%s in phase %s" % (what, now["phase"] or "start")
        return result_document(storage.read_json(os.path.join(folder, "job.json")), now["state"], detail, {})
    if now["state"] == "unknown":
        raise Refusal(UNKNOWN_JOB, "there is no job %s" % job_id, "Submit it.")
    raise Refusal(NOT_DONE, "job %s is %s in phase %s" % (job_id, now["state"], now["phase"]), "Ask again later.")


def _tail(path: str, count: int) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - count))
            return _CONTROL.sub("", stream.read(count).decode("utf-8", "replace"))
    except OSError:
        return ""


def logs(root: str, job_id: str, count: int) -> str:
    """The last `count` bytes (at most `LOG_LIMIT_BYTES`) of what the worker printed, without control characters."""
    return _tail(os.path.join(storage.job_folder(root, job_id), "log"), min(max(0, count), LOG_LIMIT_BYTES))


def cancel(root: str, job_id: str) -> Dict[str, Any]:
    """End a job; one that has ended stays as it is.

    The supervisor is asked first, so that it writes the result itself; if it does not, it and its worker are killed.
    """
    folder = storage.job_folder(root, job_id)
    if status(root, job_id)["state"] in ("queued", "running"):
        supervisor = storage.read_json(os.path.join(folder, "state.json"))["supervisor"]
        processes.kill_group(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + CANCEL_SECONDS
        while processes.alive(supervisor) and time.monotonic() < deadline:
            time.sleep(0.05)
        processes.kill_group(supervisor)
        worker = storage.read_json(os.path.join(folder, "state.json")).get("worker", {})
        processes.kill_group(worker)
        offspring.end(str(worker.get("mark", "")))
        if not os.path.exists(os.path.join(folder, "result.json")):
            job = storage.read_json(os.path.join(folder, "job.json"))
            document = result_document(job, CANCELLED, "cancelled; the supervisor had to be killed", {})
            storage.write_json(os.path.join(folder, "result.json"), document)
    return {"state": status(root, job_id)["state"]}
