"""Brings the signed metadata of a tree: roots one by one, then timestamp, snapshot, targets and what they delegate to.

Files are parsed here only for the numbers in the names of the next ones. What counts is decided by
`edgeopt_runner.trust` over all of them together, and nothing is kept that it refuses.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from edgeopt_runner.agent import STORE_REFUSED
from edgeopt_runner.agent.tree import ABSENT, Tree
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import chain, metadata
from edgeopt_runner.trust.chain import Trusted
from edgeopt_runner.trust.metadata import LIMIT_BYTES, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Metadata

MOST_ROOTS = 256


class Brought(NamedTuple):
    """Files that a store has and the board has not.

    Attributes:
        roots: In their order.
        files: By role; empty where there is nothing new below the root.
        etag: Entity tag of the timestamp.
    """

    roots: List[bytes]
    files: Dict[str, bytes]
    etag: str

    def params(self) -> Dict[str, Any]:
        """As the verb ``trust_update`` takes them. Raises Refusal ``bad_metadata``."""
        roots = [metadata.load(data, LIMIT_BYTES[ROOT], "a root") for data in self.roots]
        found = {name: metadata.load(data, LIMIT_BYTES[TARGETS], name) for name, data in self.files.items()}
        top = {name: found.pop(name) for name in (TIMESTAMP, SNAPSHOT, TARGETS) if name in found}
        return dict(top, roots=roots, delegated=found)


def bring(tree: Tree, trusted: Trusted, etag: str) -> Brought:
    """The files that are new.

    Args:
        tree: The store.
        trusted: What the board trusts.
        etag: Of the timestamp that it trusts; empty: not known.

    Raises:
        Refusal: ``network``, ``store_refused`` or ``bad_metadata``.
    """
    roots = _roots(tree, trusted.root.version)
    held = Trusted(trusted.root) if roots else trusted  # other keys may count now
    small = tree.small("metadata/timestamp.json", LIMIT_BYTES[TIMESTAMP], etag if held.timestamp else "")
    if small.status == 304:
        return Brought(roots, {}, etag)
    timestamp = _present("metadata/timestamp.json", small.status, small.body)
    parsed = metadata.parse(timestamp, TIMESTAMP)
    described = parsed.signed["meta"]["snapshot.json"]["version"]
    if held.snapshot is not None and described == held.snapshot.version:
        return Brought(roots, {TIMESTAMP: timestamp}, small.etag)
    snapshot = _file(tree, SNAPSHOT, described)
    below = _below(tree, metadata.parse(snapshot, SNAPSHOT), held)
    return Brought(roots, {TIMESTAMP: timestamp, SNAPSHOT: snapshot, **below}, small.etag)


def _roots(tree: Tree, version: int) -> List[bytes]:
    """The roots after `version`, as far as there are any."""
    found: List[bytes] = []
    for number in range(version + 1, version + 1 + MOST_ROOTS):
        small = tree.small("metadata/%d.root.json" % number, LIMIT_BYTES[ROOT])
        if small.status in ABSENT:
            break
        found.append(small.body)
    return found


def _below(tree: Tree, snapshot: Metadata, held: Trusted) -> Dict[str, bytes]:
    """What the snapshot names and the board has not: the targets, and every role that they delegate to."""
    ours: Dict[str, Metadata] = {name: file for (_, name), file in held.delegated.items()}
    if held.targets is not None:
        ours[TARGETS] = held.targets
    found: Dict[str, bytes] = {}
    seen, waiting = {TARGETS}, [TARGETS]
    while waiting:
        name = waiting.pop()
        came = _new(tree, snapshot, name, ours.get(name))
        if came is not None:
            found[name] = came
        file = ours[name] if came is None else metadata.parse(came, TARGETS)
        below = [role["name"] for role in chain.delegations(file) if role["name"] not in seen]
        seen.update(below)
        waiting += below
        if len(seen) > chain.MOST_ROLES:
            raise metadata.refuse("more than %d roles are delegated" % chain.MOST_ROLES)
    return found


def _new(tree: Tree, snapshot: Metadata, name: str, held: Optional[Metadata]) -> Optional[bytes]:
    """The file of a role in the version that the snapshot names; ``None`` where the board has that version."""
    described = snapshot.signed["meta"].get(name + ".json")
    if described is None:
        raise metadata.refuse("the snapshot does not name %s.json" % name)
    if held is not None and held.version == described["version"]:
        return None
    return _file(tree, name, described["version"])


def _file(tree: Tree, name: str, version: int) -> bytes:
    path = "metadata/%d.%s.json" % (version, name)
    small = tree.small(path, LIMIT_BYTES.get(name, LIMIT_BYTES[TARGETS]))
    return _present(path, small.status, small.body)


def _present(path: str, status: int, body: bytes) -> bytes:
    if status in ABSENT:
        remedy = "Publish the tree again: edgeopt publish --to."
        raise Refusal(STORE_REFUSED, "%s of the store answers %d" % (path, status), remedy)
    return body
