"""The worker of a lent stage: loads one model and answers requests of raw tensors until they end; see `stage`.

A request is a message (`protocol.tensors`) with the stage's inputs, whose frame has a ``number``. The answer has the
same number, the outputs and ``busy_ns``, what inference itself took; or an ``error`` in their place. The first answer
comes without a request: ``{"ready": true, "inputs": [..], "outputs": [..], "pid": n}``.
"""

import json
import os
import select
from typing import Any, Dict

from edgeopt_runner import compiled, confinement, loading, measure, processes
from edgeopt_runner.engines import RunFailed, Session
from edgeopt_runner.protocol import BAD_REQUEST, ERROR, TIMEOUT, frames, tensors
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.server import failure
from edgeopt_runner.transfer import BLOCK_BYTES, widen
from edgeopt_runner.worker import Emit, Work, ended


def work(root: str, digest: str, order_text: str, descriptors: Dict[str, int], parent: int) -> int:
    """Entry of the worker.

    Args:
        root: The runner's root.
        digest: SHA-256 of the stage.
        order_text: JSON: ``settings`` and ``idle``, the seconds to wait for a request.
        descriptors: ``requests``, ``answers`` and ``events``, inherited.
        parent: Pid of the process that guards this one, with which it ends.
    """
    processes.settle_as_worker(parent)
    for descriptor in descriptors.values():
        os.set_inheritable(descriptor, False)
    confinement.confine({})
    compiled.keep(processes.bundle())
    order = json.loads(order_text)
    job = {"artifact": {"sha256": digest}, "settings": order["settings"]}
    talk = _Talk(descriptors["requests"], descriptors["answers"], float(order["idle"]))
    with os.fdopen(descriptors["events"], "wb") as events:
        stage = _Stage(root, job, lambda event: frames.write(events, event), talk)
        status, detail = ended(stage)
        frames.write(events, {"event": "result", "result": {"status": status, "detail": detail}})
    return 0


class _Talk:
    """The two streams; a host that is silent for too long is gone."""

    def __init__(self, requests: int, answers: int, idle_seconds: float) -> None:
        self._requests, self._answers, self._idle_seconds = requests, answers, idle_seconds
        widen(requests)
        self._reader = tensors.TensorReader(frames.FrameReader(self._read, tensors.HEAD_LIMIT_BYTES))

    def _read(self, _count: int) -> bytes:
        """What is there, more than was asked for: the reader keeps it, and large tensors come in few steps."""
        if not select.select([self._requests], [], [], self._idle_seconds)[0]:
            raise Refusal(TIMEOUT + ":idle", "nothing came for %g s" % self._idle_seconds, "Open the stage again.")
        return os.read(self._requests, BLOCK_BYTES)

    def next(self) -> Any:
        """The next head and its arrays; ``None`` at the end. Raises Refusal."""
        try:
            return self._reader.next()
        except (frames.FrameError, tensors.TensorError) as error:
            raise Refusal(BAD_REQUEST, "a request that is none: %s" % error, "Open the stage again.")

    def say(self, head: Dict[str, Any], arrays: Dict[str, Any]) -> bool:
        """Send a message; False where nobody listens any more."""
        rest = memoryview(tensors.encode(head, arrays))
        try:
            while rest:
                rest = rest[os.write(self._answers, rest) :]
        except BrokenPipeError:
            return False
        return True


class _Stage(Work):
    """The loaded stage."""

    def __init__(self, root: str, job: Dict[str, Any], emit: Emit, talk: _Talk) -> None:
        super(_Stage, self).__init__(root, job, emit)
        self._talk = talk

    def run(self) -> None:
        """Load, and answer until the requests end."""
        self.phase("load")
        path = loading.verified_artifact(self.root, self.job["artifact"])
        loading.import_runtime(self.job["settings"]["runtime"])
        session = self.keep(loading.load(path, self.job["settings"], self.digest))
        self.phase("serve")
        ready = {"ready": True, "inputs": session.inputs, "outputs": session.outputs, "pid": os.getpid()}
        listens = self._talk.say(ready, {})
        while listens:
            request = self._talk.next()
            if request is None:
                return
            listens = self._answer(session, *request)

    def _answer(self, session: Session, head: Dict[str, Any], feeds: Dict[str, Any]) -> bool:
        """Run once and say what came of it; whether the host still listens."""
        number = head.get("number")
        answer: Dict[str, Any] = {"number": number if isinstance(number, int) else None}
        try:
            session.require(feeds)
            start = measure.clock_ns()
            outputs = session.run(feeds)
            answer["busy_ns"] = measure.clock_ns() - start
            return self._talk.say(answer, outputs)
        except (RunFailed, tensors.TensorError) as error:
            trouble = Refusal(ERROR, str(error))
            return self._talk.say(dict(failure(trouble), number=answer["number"]), {})
