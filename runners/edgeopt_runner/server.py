"""Answers framed requests on stdin and stdout, one verb after the other, and survives whatever it is sent.

What a verb needs is imported when it is asked for: on a slow board imports are most of what a short visit takes.
"""

import atexit
import contextlib
import os
import sys
import time
from typing import Any, BinaryIO, Callable, Dict

from edgeopt_runner import leases, patch_streams, processes, storage, transfer
from edgeopt_runner.protocol import BAD_REQUEST, PROTOCOL, RUNNER_VERSION, UNKNOWN_VERB, frames
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.results import one_line
from edgeopt_runner.trust.state import DOOR_VARIABLE

Params = Dict[str, Any]


def _param(params: Params, name: str, kind: Any, default: Any = None) -> Any:
    """A parameter of the right type; `default` where it is absent, if there is one. Raises Refusal."""
    value = params.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise Refusal(BAD_REQUEST, "parameter %s is %.80r" % (name, value), "See the verb's table in the protocol.")
    return value


def _hello(_root: str, params: Params) -> Dict[str, Any]:
    offered = _param(params, "protocols", list)
    if PROTOCOL not in offered:
        remedy = "Push the runner that belongs to this host."
        raise Refusal(BAD_REQUEST, "this runner speaks protocol %d, not %.80r" % (PROTOCOL, offered), remedy)
    from edgeopt_runner import hardware

    return {
        "protocol": PROTOCOL,
        "runner": RUNNER_VERSION,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "machine": os.uname().machine,
        "pid": os.getpid(),
        "boot_id": processes.boot_id(),
        "utc_offset_seconds": time.localtime().tm_gmtoff,
        "verbs": sorted(VERBS) + [RECEIVE],
        "restricted": bool(os.environ.get(DOOR_VARIABLE)),
        "codecs": patch_streams.codecs(),
        "hardware": hardware.marks(),
    }


def _probe(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import probe

    return probe.probe(root, _param(params, "runtimes", bool, True))


def _have(root: str, params: Params) -> Dict[str, Any]:
    return transfer.have(root, _param(params, "digests", list))


def _owner(params: Params) -> Dict[str, str]:
    return {
        name: _param(params, name, str, default) for name, default in (("owner", None), ("host", None), ("reason", ""))
    }


def _lease(root: str, params: Params) -> Dict[str, Any]:
    held, lease, _ = leases.take(root, _owner(params), _param(params, "seconds", (int, float)))
    return {"held": held, "lease": lease}


def _unlease(root: str, params: Params) -> Dict[str, Any]:
    return {"released": leases.give_back(root, _owner(params))}


def _submit(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import jobs

    return jobs.submit(root, _param(params, "job", dict))


def _of_job(name: str) -> Callable[[str, Params], Dict[str, Any]]:
    def answer(root: str, params: Params) -> Dict[str, Any]:
        from edgeopt_runner import jobs

        return getattr(jobs, name)(root, storage.check_identifier(params.get("job_id")))  # type: ignore[no-any-return]

    return answer


def _logs(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import jobs

    count = _param(params, "bytes", int, jobs.LOG_LIMIT_BYTES)
    return {"text": jobs.logs(root, storage.check_identifier(params.get("job_id")), count)}


def _apps(root: str, _params: Params) -> Dict[str, Any]:
    from edgeopt_runner import releases

    return {"apps": releases.apps(root)}


def _gc(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import cleanup

    return cleanup.collect_garbage(root, _param(params, "keep", list, []), _param(params, "tight", bool, False))


def _preflight(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import compiled, releases
    from edgeopt_runner.updates import order, preflight

    atexit.register(compiled.keep, processes.bundle())  # who asks this comes again
    wanted = order.read(params)
    with contextlib.suppress(OSError):  # what was switched to and never committed would look as if it ran here
        releases.recover(root, wanted.app)
    return preflight.preflight(root, wanted)


def _releases(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import releases

    return {"apps": releases.report(root, _param(params, "verify", bool, False))}


def _clean(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import cleanup

    return cleanup.clean(root, _param(params, "force", bool, False))


def _agent(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner.agent import verbs

    return verbs.agent(root, params)


def _restrict(root: str, params: Params) -> Dict[str, Any]:
    from edgeopt_runner import door

    return door.restrict(root, _param(params, "public_key", str))


def _trusting(name: str) -> Callable[[str, Params], Dict[str, Any]]:
    def answer(root: str, params: Params) -> Dict[str, Any]:
        from edgeopt_runner.trust import verbs

        return getattr(verbs, name)(root, params)  # type: ignore[no-any-return]

    return answer


VERBS: Dict[str, Callable[[str, Params], Dict[str, Any]]] = {
    "hello": _hello,
    "probe": _probe,
    "have": _have,
    "lease": _lease,
    "unlease": _unlease,
    "submit": _submit,
    "status": _of_job("status"),
    "result": _of_job("result"),
    "logs": _logs,
    "cancel": _of_job("cancel"),
    "apps": _apps,
    "releases": _releases,
    "preflight": _preflight,
    "gc": _gc,
    "clean": _clean,
    "trust": _trusting("trust"),
    "enrol": _trusting("enrol"),
    "trust_update": _trusting("trust_update"),
    "agent": _agent,
    "restrict": _restrict,
}
"""Every verb by name: takes the root and the request's parameters, returns the result or raises Refusal."""


RECEIVE = "receive"
"""The verb with two answers, between which raw bytes arrive."""


def failure(refusal: Refusal) -> Dict[str, Any]:
    """The answer that says why not."""
    error = {"code": refusal.code, "message": one_line(refusal.message), "remedy": one_line(refusal.remedy)}
    return {"ok": False, "error": error}


def _answer(root: str, request: Dict[str, Any]) -> Dict[str, Any]:
    verb, params = request.get("verb"), request.get("params", {})
    if not isinstance(verb, str) or verb not in VERBS:
        raise Refusal(UNKNOWN_VERB, "verb %.80r" % (verb,), "This runner knows %s." % ", ".join(sorted(VERBS)))
    if not isinstance(params, dict):
        raise Refusal(BAD_REQUEST, "params is %.80r" % (params,), "Send an object.")
    if os.environ.get(DOOR_VARIABLE):
        from edgeopt_runner import door

        door.check_request(root, verb, params)
    return {"ok": True, "result": VERBS[verb](root, params)}


def serve(root: str, requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer requests until the stream of requests ends.

    Args:
        root: The runner's root; made here.
        requests: Binary stream of the host's frames; noise between them is skipped.
        answers: Where one frame a request goes.
    """
    _put_right(root)
    reader = frames.reader_of(requests)
    while True:
        try:
            request = reader.next()
            if request is None:
                return 0
            if request.get("verb") == RECEIVE:
                if not _receive(root, request, requests.fileno(), answers):
                    return 1
                continue
            answer = _framed(root, request)
        except BrokenPipeError:
            return 0
        except frames.FrameError as error:
            answer = frames.encode(dict(failure(Refusal(BAD_REQUEST, str(error), "Send the request again.")), id=None))
        try:
            answers.write(answer)
            answers.flush()
        except BrokenPipeError:
            return 0


def _put_right(root: str) -> None:
    """Bring what was interrupted to its end: nobody knows how long ago that was. A board that cannot still answers."""
    with contextlib.suppress(Exception):
        if os.listdir(os.path.join(root, "apps")):
            from edgeopt_runner import releases

            releases.recover_all(root)


def _receive(root: str, request: Dict[str, Any], source: int, answers: BinaryIO) -> bool:
    """Take an object; False where that broke off, since nobody knows then where its bytes end and requests begin."""
    told = []
    name = _name(request)

    def tell(document: Dict[str, Any]) -> None:
        told.append(document)
        frames.write(answers, dict(name, ok=True, result=document))

    try:
        params = _param(request, "params", dict)
        size = _param(params, "size", int)
        if size < 0:
            raise Refusal(BAD_REQUEST, "size is %d" % size)
        transfer.receive(root, storage.check_digest(params.get("sha256")), size, source, tell)
    except BrokenPipeError:
        raise
    except Exception as error:  # the rim, as below
        frames.write(answers, dict(failure(refusal_of(error)), **name))
        return not told
    return True


def _name(request: Dict[str, Any]) -> Dict[str, Any]:
    asked = request.get("id")
    return {"id": asked if isinstance(asked, (int, str)) else None}


def _framed(root: str, request: Dict[str, Any]) -> bytes:
    """The answer to a request as a frame, whatever happens."""
    name = _name(request)
    try:
        return frames.encode(dict(_answer(root, request), **name))
    except Exception as error:  # the rim: a bad request must not end the conversation
        return frames.encode(dict(failure(refusal_of(error)), **name))
