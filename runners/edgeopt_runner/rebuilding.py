"""The job that rebuilds an object from a patch, and where its base may lie."""

import os
from typing import Any, Dict, Iterator, Tuple

from edgeopt_runner import links, patches, storage, transfer
from edgeopt_runner.locks import FileLock
from edgeopt_runner.protocol import BUSY, MISSING_OBJECT, OK
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import ReleaseStore


def rebuild(root: str, job: Dict[str, Any], emit: Any) -> Dict[str, Any]:
    """Make an object from one that is here and a patch (job kind ``rebuild``); the patch is used up.

    Raises:
        Refusal: ``missing_object``, ``bad_patch``, ``digest_mismatch``, ``disk_full`` or ``busy``.
    """
    emit({"event": "phase", "phase": "rebuild"})
    result, size = job["result"], job["size"]
    final, patch = storage.object_path(root, result), storage.object_path(root, job["patch"])
    if not os.path.isfile(final):
        base = find_base(root, job["base"]) if job.get("base") else None
        transfer.check_space(os.path.dirname(final), size)
        lock = FileLock(final + ".rebuild.lock")
        if not lock.acquire():
            raise Refusal(BUSY, "process %s rebuilds %s" % (lock.holder(), result), "Try again later.")
        try:
            patches.apply(base, patch, final, result, size)
        finally:
            lock.release(remove=True)
    links.remove_file(patch)
    return {"status": OK, "detail": "", "rebuild": {"sha256": result, "size": size}}


def find_base(root: str, digest: str) -> str:
    """The file of that digest: an object, or a part of a release of any application.

    Raises:
        Refusal: ``missing_object``.
    """
    path = storage.object_path(root, digest)
    if os.path.isfile(path):
        return path
    for store, number in _releases(root):
        try:
            files = store.manifest(number)["files"].values()
        except Refusal:
            continue
        for entry in files:
            path = os.path.join(store.folder(number), os.path.basename(entry["name"]))
            if entry.get("sha256") == digest and os.path.isfile(path):
                return path
    raise Refusal(MISSING_OBJECT, "no file here has the digest %s" % digest, patches.SEND_WHOLE)


def _releases(root: str) -> Iterator[Tuple[ReleaseStore, int]]:
    try:
        names = sorted(os.listdir(os.path.join(root, "apps")))
    except FileNotFoundError:
        return
    for name in names:
        try:
            store = ReleaseStore(root, name)
        except Refusal:
            continue
        for number in store.numbers():
            yield store, number
