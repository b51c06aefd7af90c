"""The agent's order to the supervisor: the same ``update`` job that a host sends, and how its end is understood."""

import hashlib
import time
from typing import Any, Callable, Dict

from edgeopt_runner import jobs
from edgeopt_runner.agent import NETWORK
from edgeopt_runner.protocol import ERROR, LOST, OK, REBOOTED, TIMEOUT
from edgeopt_runner.transaction import NOT_ITS_FAULT

_POLL_SECONDS = 0.25
_LONGEST_POLL_SECONDS = 2.0
_LIVE = ("queued", "running")
_AGAIN = (*NOT_ITS_FAULT, LOST, NETWORK, REBOOTED, ERROR)
"""What may be another time, and says nothing about the release; where an error is the release's own, the board's count
of its failures ends the tries.
"""


def update_job(order: Dict[str, Any], board: str, attempt: int) -> Dict[str, Any]:
    """The job document of an update.

    The same order and attempt give the same ``job_id``: an agent that was killed collects the job that it began.

    Args:
        order: ``app``, ``manifest``, ``target``, ``profile``, ``rollout`` and what else the job kind takes.
        board: The board's name.
        attempt: From 1.
    """
    words = "\n".join([str(order["rollout"]), str(order["manifest"]), str(attempt)])
    job_id, nonce = (hashlib.sha256(("%s\n%s" % (what, words)).encode("utf-8")).hexdigest()[:32] for what in "jn")
    owner = {"owner": "agent", "host": board, "reason": "update of %s" % order["app"]}
    fixed = {"kind": "update", "job_id": job_id, "nonce": nonce, "owner": owner, "limits": {}}
    return dict(order, insecure_unsigned=False, commit="local", **fixed)


def is_under_way(root: str, job: Dict[str, Any]) -> bool:
    """Whether a job is at work already: by an agent that was killed since."""
    return jobs.status(root, job["job_id"])["state"] in _LIVE


def carry_out(root: str, job: Dict[str, Any], tick: Callable[[], None] = lambda: None) -> Dict[str, Any]:
    """Submit a job and wait for its end.

    Args:
        root: The runner's root.
        job: The document; one that is known is not begun again.
        tick: Called now and then while the job is at work.

    Returns:
        ``outcome``, ``code``, ``reason``, ``before`` and ``after`` of the update; ``aborted`` where the job itself
        came to no such end.

    Raises:
        Refusal: The job was not accepted.
    """
    result = result_of(root, job, tick)
    update = result.get("update")
    if isinstance(update, dict) and isinstance(update.get("outcome"), str):
        return update
    return {"outcome": "aborted", "code": result.get("status", LOST), "reason": result.get("detail", "")}


def result_of(root: str, job: Dict[str, Any], tick: Callable[[], None] = lambda: None) -> Dict[str, Any]:
    """Submit a job of any kind and wait for its result document; arguments as of `carry_out`.

    Raises:
        Refusal: The job was not accepted.
    """
    job_id = job["job_id"]
    status = jobs.submit(root, job)
    wait_seconds = _POLL_SECONDS
    while status["state"] in _LIVE:
        tick()
        time.sleep(wait_seconds)
        wait_seconds = min(wait_seconds * 1.1, _LONGEST_POLL_SECONDS)
        status = jobs.status(root, job_id)
    return jobs.result(root, job_id)


def is_worth_another_try(update: Dict[str, Any]) -> bool:
    """Whether an update that did not come to a commit may do so another time."""
    code = str(update.get("code") or "")
    if update["outcome"] == "inconclusive":
        return True
    passing = code in _AGAIN or code.startswith(TIMEOUT) or code in ("", OK)
    return update["outcome"] in ("aborted", "rolled_back") and passing
