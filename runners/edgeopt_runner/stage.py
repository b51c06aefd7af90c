"""Action ``stage``: lends a model, one stage of a network, to whoever is at the other end of stdin and stdout.

It is no kind of job: a job outlives its link, and answers once; a stage is talked to and ends with its link. What
protects the board is the same: the board's lock, here shared among the stages of one owner, whose lease keeps others
away; and a guarded worker with deadlines and a watch on memory. The worker inherits the two streams, so that no tensor
is copied on its way through this process. A single inference has no deadline here: the host has one, and hangs up.
"""

import json
import os
import select
import sys
import threading
import time
from typing import Any, BinaryIO, Dict, List

from edgeopt_runner import job_document, leases, loading, processes, server, storage
from edgeopt_runner.guard import TOTAL_SECONDS, GuardedWorker, Limits, Outcome, limits_of
from edgeopt_runner.locks import FileLock, board_lock_path
from edgeopt_runner.protocol import BAD_REQUEST, BUSY, LEASE_SECONDS, OK, frames
from edgeopt_runner.refusals import Refusal, refusal_of

IDLE_SECONDS = 120.0
"""How long a stage waits for the next request, where its order does not say."""
_QUEUE_SECONDS = 15.0
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 1.0
_ORDER_LIMIT = 16 << 10
_HUNG_UP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0x2000)


def lend(root: str, digest: str, order_text: str, answers: BinaryIO) -> int:
    """Serve one stage until stdin ends; returns the exit code.

    Args:
        root: The runner's root.
        digest: SHA-256 of the stage, which is among the objects.
        order_text: JSON: ``owner``, ``settings`` and ``limits``, as of a job; a deadline ``idle`` is how long the stage
            waits for the next request.
        answers: Where the answers go (see the package `protocol`).

    What stands in the way, or how the stage ended where it did not end well, is the last answer.
    """
    try:
        outcome = _lend(root, digest, order_text, answers)
        refusal = Refusal(outcome.status, outcome.detail) if outcome.status != OK else None
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
    if refusal is None:
        return 0
    try:
        frames.write(answers, server.failure(refusal))
    except BrokenPipeError:
        pass  # nobody listens any more
    return 1


def _lend(root: str, digest: str, order_text: str, answers: BinaryIO) -> Outcome:
    """How the stage ended. Raises Refusal: ``bad_request``, ``missing_object``, ``busy``."""
    order = _order(order_text)
    loading.object_of(root, storage.check_digest(digest), "the stage")
    board = FileLock(board_lock_path(root), shared=True)
    had_lease = _take_board(root, order["owner"], board)
    try:
        return _serve(root, digest, order, answers)
    finally:
        if not had_lease:
            leases.give_back(root, order["owner"])
        board.release()


def _order(text: str) -> Dict[str, Any]:
    try:
        order = json.loads(text) if len(text) <= _ORDER_LIMIT else None
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise Refusal(BAD_REQUEST, "the order is %.80r" % text, "Send owner, settings and limits.")
    job_document.check_owner(order.get("owner"))
    job_document.check_settings(order.get("settings"))
    job_document.check_limits(order.get("limits", {}))
    return order


def _take_board(root: str, owner: Dict[str, str], board: FileLock) -> bool:
    """Take lease and lock; returns whether the owner had the lease before. Raises Refusal where others have them."""
    held, lease, had_lease = leases.take(root, owner, LEASE_SECONDS)
    if not held:
        raise Refusal(BUSY, "the board is in use by %s" % leases.described(lease), "Wait until they are done.")
    until = time.monotonic() + _QUEUE_SECONDS
    while not board.acquire():
        if time.monotonic() > until:
            if not had_lease:
                leases.give_back(root, owner)
            raise Refusal(BUSY, "the board is at another job", "Wait until it is done.")
        time.sleep(_POLL_SECONDS)
    return had_lease


def _serve(root: str, digest: str, order: Dict[str, Any], answers: BinaryIO) -> Outcome:
    """Run the worker on our streams until it ends, the link does, or a limit is passed."""
    requests = os.dup(0)
    idle = limits_of(order).deadline_seconds.get("idle", IDLE_SECONDS)
    provisioned = storage.provisioned_python(root)
    interpreter = provisioned if os.path.exists(provisioned) else sys.executable

    def command(events: int) -> List[str]:
        what = [
            "--root",
            root,
            "--sha256",
            digest,
            "--order",
            json.dumps({"settings": order["settings"], "idle": idle}),
        ]
        streams = ["--requests-fd", str(requests), "--answers-fd", str(answers.fileno())]
        channel = ["--events-fd", str(events), "--parent", str(os.getpid())]
        return processes.program(interpreter) + ["stage-work"] + what + streams + channel

    hung_up = threading.Event()
    streams = (requests, answers.fileno())
    with GuardedWorker(command, os.devnull, _limits(order), lambda *_: None, streams) as worker:
        watch = threading.Thread(target=_watch_link, args=(root, order["owner"], hung_up), daemon=True)
        watch.start()
        return worker.wait(hung_up)


def _limits(order: Dict[str, Any]) -> Limits:
    """The order's, where serving may last as long as all together."""
    limits = limits_of(order)
    return Limits(limits.memory_bytes, dict({"serve": TOTAL_SECONDS}, **limits.deadline_seconds))


def _watch_link(root: str, owner: Dict[str, str], hung_up: threading.Event) -> None:
    """Renew the lease while somebody is at the other end of stdin; say so when nobody is any more.

    The worker sees the end of stdin by itself, unless it is in the middle of an inference that does not end.
    """
    poll = select.poll()
    poll.register(0, _HUNG_UP & ~select.POLLNVAL)
    while not poll.poll(LEASE_SECONDS / 3 * 1000):
        try:
            leases.take(root, owner, LEASE_SECONDS)
        except OSError:
            pass  # the lock still keeps the board ours
    time.sleep(_GRACE_SECONDS)
    hung_up.set()
