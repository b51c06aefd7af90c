"""What the rest of the runner asks of the board's trust: is this file signed, and as what?"""

import fnmatch
import hashlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import chain, state
from edgeopt_runner.trust.chain import Incoming, Trusted
from edgeopt_runner.trust.metadata import TARGETS, Metadata
from edgeopt_runner.trust.state import mark_insecure

__all__ = ["VerifiedTargets", "enrolled", "last_trusted_time", "mark_insecure", "verified"]


class VerifiedTargets:
    """The targets of a board that is enrolled, every signature verified against its root.

    Attributes:
        enrolled: True.
        insecure: Whether something unsigned was ever installed here.
        last_trusted_time: Seconds since the epoch; expiry may be held against it.
        expires: When the first of the metadata expires; 0 where there are none.
        version: Of the targets; 0 where there are none (nothing was sent yet, or the root's keys no longer sign it).
    """

    enrolled = True

    def __init__(self, trusted: Optional[Trusted], memory: state.Memory) -> None:
        self._trusted = trusted
        self.insecure = bool(memory.insecure)
        self.last_trusted_time = memory.last_trusted_time
        files = _files(trusted) if trusted is not None else []
        self.expires = min((file.expires for file in files), default=0)
        self.version = trusted.targets.version if trusted is not None and trusted.targets is not None else 0

    def find(self, path: str) -> Optional[Dict[str, Any]]:
        """``sha256``, ``length`` and ``role`` of the file that is signed under that path; ``None``: there is none.

        Section 5.6.7 of the specification: depth first in the order of the delegations, none twice, and none after one
        that is terminating.
        """
        if self._trusted is None or self._trusted.targets is None:
            return None
        waiting: List[Tuple[str, str]] = [("root", TARGETS)]
        seen = set()
        while waiting:
            parent, name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            file = self._trusted.targets if name == TARGETS else self._trusted.delegated[parent, name]
            described = file.signed["targets"].get(path)
            if described is not None:
                digest = described["hashes"]["sha256"].lower()
                return {"sha256": digest, "length": described["length"], "role": name}
            asked = list(_covering(file, path))
            if asked and asked[-1]["terminating"]:
                waiting = []
            waiting += [(name, role["name"]) for role in reversed(asked)]
        return None

    def paths(self, prefix: str = "") -> List[str]:
        """Paths under a prefix that `find` finds, sorted."""
        named = (
            {path for file in _files(self._trusted) for path in file.signed.get("targets", ())} if self._trusted else ()
        )
        return sorted(path for path in named if path.startswith(prefix) and self.find(path) is not None)


def _files(trusted: Trusted) -> List[Metadata]:
    top = (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
    return [file for file in (*top, *trusted.delegated.values()) if file is not None]


def _covering(file: Metadata, path: str) -> Iterator[Mapping[str, Any]]:
    """Roles that a file asks about a path, in their order, up to the first that is terminating."""
    for role in chain.delegations(file):
        if _covers(role, path):
            yield role
            if role["terminating"]:
                return


def _covers(role: Mapping[str, Any], path: str) -> bool:
    """Whether a role may speak of a path. In patterns ``*`` stops at a slash."""
    if "paths" not in role:
        digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
        return any(digest.startswith(prefix) for prefix in role["path_hash_prefixes"])
    parts = path.split("/")
    for pattern in role["paths"]:
        wanted = pattern.split("/")
        if len(wanted) == len(parts) and all(fnmatch.fnmatchcase(*pair) for pair in zip(parts, wanted)):
            return True
    return False


def enrolled(root: str) -> bool:
    """Whether this board has a root of trust."""
    return next(state.roots(root), None) is not None


def last_trusted_time(root: str) -> int:
    """Latest signed time that the board believed, in seconds since the epoch; 0: none yet."""
    return state.memory(root).last_trusted_time


def verified(root: str) -> Optional[VerifiedTargets]:
    """The board's targets, verified now against its root; ``None``: the board is not enrolled.

    Expiry was held against a signed time when they came; hold `VerifiedTargets.expires` against a later one.
    """
    held = state.load(root)
    if held is None:
        return None
    try:
        trusted: Optional[Trusted] = chain.update(held, Incoming(), now=0)
    except Refusal:
        trusted = None  # nothing was sent yet, the root has other keys by now, or a file is damaged: nothing is signed
    return VerifiedTargets(trusted, state.memory(root))


def summary(root: str) -> Dict[str, Any]:
    """Versions and marks, as the verbs tell them."""
    held, known = state.load(root), state.memory(root)
    files = {} if held is None else {name: getattr(held, name) for name in ("root", "timestamp", "snapshot", "targets")}
    versions = {
        name: files[name].version if files.get(name) else 0 for name in ("root", "timestamp", "snapshot", TARGETS)
    }
    return dict(
        versions,
        enrolled=held is not None,
        delegated={name: file.version for (_, name), file in (held.delegated if held else {}).items()},
        last_trusted_time=known.last_trusted_time,
        insecure=bool(known.insecure),
    )
