"""From a job to a loaded model: the artifact verified, the runtime imported, the session made, each step timed.

Fault points `engine.load` and `engine.run` are here; without faults the timed call is the session's own.
"""

import os
from typing import Any, Callable, Dict, List

from edgeopt_runner import engines, faults, group, measure, storage
from edgeopt_runner.correctness import feeds_of
from edgeopt_runner.links import sha256_of
from edgeopt_runner.protocol import DIGEST_MISMATCH, MISSING_OBJECT
from edgeopt_runner.protocol.samples import SampleFile
from edgeopt_runner.refusals import Refusal

BUFFERS = 4

Calls = List[measure.Call]


def verified_artifact(root: str, artifact: Dict[str, Any]) -> str:
    """Path of the job's model, after its digest was checked: what is measured is what was sent.

    Raises:
        Refusal: ``missing_object`` or ``digest_mismatch``.
    """
    path = object_of(root, artifact["sha256"], "the model")
    found = sha256_of(path)
    if found != artifact["sha256"]:
        message = "the model's digest is %s, not %s" % (found, artifact["sha256"])
        raise Refusal(DIGEST_MISMATCH, message, "Push it again.")
    return path


def object_of(root: str, digest: str, what: str) -> str:
    """Path of an object. Raises Refusal ``missing_object``."""
    path = storage.object_path(root, digest)
    if not os.path.isfile(path):
        raise Refusal(MISSING_OBJECT, "%s (%s) is not on the device" % (what, digest), "Push it again.")
    return path


def import_runtime(name: str) -> Dict[str, Any]:
    """Version and providers of a runtime, imported.

    Raises:
        EngineMissing: No such engine, or its runtime cannot be imported.
    """
    found = engines.engine(name).available()
    if found is None:
        raise engines.EngineMissing("the device's interpreter cannot import %s" % name)
    return found


def load(path: str, settings: Dict[str, Any], digest: str) -> engines.Session:
    """The model in its runtime.

    Raises:
        EngineMissing: The runtime cannot be imported.
        LoadFailed: The runtime refused the file.
    """
    faults.point("engine.load", match=digest)
    return group.load(engines.engine(settings["runtime"]), path, settings)


def input_buffers(golden: SampleFile, session: engines.Session, batch: int = 1) -> List[Dict[str, Any]]:
    """At least four feeds in memory of their own, from the golden samples, repeated where those are fewer.

    Args:
        golden: The golden samples.
        session: The loaded model.
        batch: Samples in one feed.

    Raises:
        Refusal: ``missing_object``: the golden file has no samples.
    """
    import numpy as np

    feeds = [feeds_of(sample, session) for sample in golden.read(BUFFERS)]
    if not feeds:
        raise Refusal(MISSING_OBJECT, "the golden file has no samples", "Send at least one.")
    count = max(BUFFERS, len(feeds))
    if batch > 1:
        return [group.join([feeds[(number + row) % len(feeds)] for row in range(batch)]) for number in range(count)]
    return [{name: np.array(array) for name, array in feeds[number % len(feeds)].items()} for number in range(count)]


def prepared(session: engines.Session, feeds: List[Dict[str, Any]], digest: str) -> Calls:
    """The calls to time, one a feed."""
    calls = [session.prepare(feed) for feed in feeds]
    return [_faulty(call, digest) for call in calls] if faults.armed("engine.run") else calls


def lanes(session: engines.Session, feeds: List[Dict[str, Any]], settings: Dict[str, Any], digest: str) -> List[Calls]:
    """The calls to time, a list for each that runs at once: one a session, or one for a batch split over them."""
    if isinstance(session, group.Group) and settings.get("batch", 1) == 1:
        return [prepared(one, feeds, digest) for one in session.sessions]
    return [prepared(session, feeds, digest)]


def _faulty(call: measure.Call, digest: str) -> Callable[[], Any]:
    def run() -> Any:
        faults.point("engine.run", match=digest)
        return call()

    return run
