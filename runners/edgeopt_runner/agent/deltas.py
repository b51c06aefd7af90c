"""Brings a file of a release as a patch on one that is here, where the store has a patch that is smaller."""

import hashlib
import os
from typing import Any, Dict, List, Optional

from edgeopt_runner import faults, patch_streams, storage
from edgeopt_runner.agent import orders
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.protocol import ready_patches
from edgeopt_runner.protocol.ready_patches import Ready
from edgeopt_runner.refusals import Refusal

LEAST_BYTES = 64 << 10
"""A smaller file comes whole: to start a worker costs more."""

WORTH = 0.9
_LIMITS = {"deadline_seconds": {"queue": 300.0, "total": 1800.0}}


def bring(tree: Tree, root: str, need: Dict[str, Any], bases: List[str], board: str) -> bool:
    """Have a file by way of a patch; False where it has to be fetched whole, whatever the reason.

    Args:
        tree: The store.
        root: The runner's root.
        need: ``sha256`` and ``size`` of the file, as the signed manifest has them.
        bases: Digests of files that are here.
        board: The board's name, for whoever finds it busy.
    """
    if need["size"] < LEAST_BYTES or os.path.exists(storage.part_path(root, need["sha256"])):
        return False
    try:
        patch = _chosen(tree, need, bases)
        if patch is None:
            return False
        tree.bring(root, "blobs/%s" % patch.sha256, patch.sha256, patch.size)
        faults.point("pull.patch", match=need["sha256"])
        result = orders.result_of(root, _job(need, patch, board))
    except Refusal:
        return False
    return result.get("status") == "ok" and os.path.isfile(storage.object_path(root, need["sha256"]))


def _chosen(tree: Tree, need: Dict[str, Any], bases: List[str]) -> Optional[Ready]:
    """The smallest patch that this board can use and that is worth it. Raises Refusal."""
    found = tree.small(ready_patches.path(need["sha256"]), ready_patches.LIMIT_BYTES)
    known, here = set(patch_streams.codecs()), {"", *bases}
    usable = [one for one in ready_patches.read(found.body) if one.base in here and known.issuperset(one.codecs)]
    smallest = min(usable, key=lambda one: one.size, default=None)
    return smallest if smallest is not None and smallest.size <= WORTH * need["size"] else None


def _job(need: Dict[str, Any], patch: Ready, board: str) -> Dict[str, Any]:
    """The job that rebuilds the file; the same patch for it has the same name, so that it is tried once."""
    words = "\n".join([need["sha256"], patch.sha256])
    job_id, nonce = (hashlib.sha256(("%s\n%s" % (what, words)).encode("utf-8")).hexdigest()[:32] for what in "rn")
    owner = {"owner": "agent", "host": board, "reason": "rebuilding %s" % need["sha256"][:12]}
    what = {"base": patch.base or None, "patch": patch.sha256, "result": need["sha256"], "size": need["size"]}
    return dict(what, kind="rebuild", job_id=job_id, nonce=nonce, owner=owner, limits=_LIMITS)
