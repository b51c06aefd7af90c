"""The client workflow of The Update Framework as pure functions: what a board trusts, and what it may trust next.

The Update Framework Specification 1.0.33, section 5 (5.3 root, 5.4 timestamp, 5.5 snapshot, 5.6 targets). Time is an
argument. Stricter than asked: one public key counts once however many identifiers it has, every delegated role has to
come along, and nothing of an update is trusted unless all of it is (roots apart, which stand for themselves).
"""

import hashlib
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from edgeopt_runner.protocol import BAD_SIGNATURE, EXPIRED, ROLLBACK_ATTACK
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import ed25519, metadata
from edgeopt_runner.trust.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Metadata

MOST_ROLES = 32
"""Delegated roles at most, as python-tuf's client has it."""

Delegated = Dict[Tuple[str, str], Metadata]
"""By the name of the role that delegates and its own: a role may be delegated twice, with different keys."""


class Trusted(NamedTuple):
    """What a board trusts; below the root all or nothing of it."""

    root: Metadata
    timestamp: Optional[Metadata] = None
    snapshot: Optional[Metadata] = None
    targets: Optional[Metadata] = None
    delegated: Delegated = {}


class Incoming(NamedTuple):
    """Files of an update as they came; what is absent is taken from what the board has."""

    timestamp: Optional[bytes] = None
    snapshot: Optional[bytes] = None
    targets: Optional[bytes] = None
    delegated: Mapping[str, bytes] = {}


def _signers(keys: Mapping[str, Any], role: Mapping[str, Any], payload: bytes, signatures: Mapping[str, str]) -> int:
    """How many different keys of the role have signed."""
    signed = set()
    for name in role["keyids"]:
        if name in keys and name in signatures:
            public = bytes.fromhex(keys[name]["keyval"]["public"])
            if public not in signed and ed25519.verify(public, _bytes(signatures[name]), payload):
                signed.add(public)
    return len(signed)


def _bytes(signature: str) -> bytes:
    return bytes.fromhex(signature) if re.match(r"[0-9a-fA-F]{128}\Z", signature) else b""


def require_signed(
    keys: Mapping[str, Any], role: Mapping[str, Any], payload: bytes, signatures: Mapping[str, str], what: str
) -> None:
    """Refuse bytes that fewer keys of a role have signed than its threshold.

    Raises:
        Refusal: ``bad_signature``.
    """
    count = _signers(keys, role, payload, signatures)
    if count < role["threshold"]:
        message = "%s is signed by %d of the keys that this board trusts, %d are needed" % (
            what,
            count,
            role["threshold"],
        )
        raise Refusal(
            BAD_SIGNATURE, message, "See edgeopt keys status; was this board enrolled with another set of keys?"
        )


def require_by_root(root: Metadata, name: str, payload: bytes, signatures: Mapping[str, str], what: str) -> None:
    """The same for a role of a root."""
    require_signed(root.signed["keys"], root.signed["roles"][name], payload, signatures, what)


def _require_role(root: Metadata, file: Metadata) -> None:
    require_by_root(root, file.role, file.payload, file.signatures, "%s version %d" % (file.role, file.version))


def require_current(file: Metadata, now: float, name: str = "") -> None:
    """Refuse what has expired. Raises Refusal ``expired``."""
    if now >= file.expires:
        message = "%s version %d expired at %s" % (name or file.role, file.version, file.signed["expires"])
        raise Refusal(EXPIRED, message, "Sign it again: edgeopt keys refresh %s." % (name or file.role))


def _rollback(what: str, new: int, old: int) -> Refusal:
    message = "%s has version %d, and this board has seen version %d" % (what, new, old)
    remedy = "Send the newest metadata; if versions were pushed up by a thief, rotate the key of that role."
    return Refusal(ROLLBACK_ATTACK, message, remedy)


def first_root(data: bytes) -> Metadata:
    """A root to begin with: it has to bear its own signatures. Raises Refusal."""
    root = metadata.parse(data, ROOT)
    _require_role(root, root)
    return root


def follow_roots(root: Metadata, files: Iterable[bytes]) -> List[Metadata]:
    """The roots after `root`, each signed by the keys of the one before and by its own (5.3.4 and 5.3.5).

    Files up to the version of `root` are passed over: an update may be sent again.

    Raises:
        Refusal: ``bad_metadata``, ``bad_signature``, or ``rollback_attack`` where a version is missing between them.
    """
    followed: List[Metadata] = []
    for data in files:
        new = metadata.parse(data, ROOT)
        if new.version <= root.version:
            continue
        if new.version != root.version + 1:
            raise _rollback("the root after version %d" % root.version, new.version, root.version)
        _require_role(root, new)
        _require_role(new, new)
        followed.append(new)
        root = new
    return followed


def _still_signed(root: Metadata, file: Optional[Metadata]) -> Optional[Metadata]:
    """What the root's keys still sign (5.3.11): what a thief pushed up falls with the thief's key."""
    try:
        if file is not None:
            _require_role(root, file)
    except Refusal:
        return None
    return file


def lost_timestamp(trusted: Trusted) -> bool:
    """Whether the root's keys no longer sign the timestamp that is trusted: they were rotated since."""
    return trusted.timestamp is not None and _still_signed(trusted.root, trusted.timestamp) is None


def _require_file(described: Mapping[str, Any], data: bytes, what: str) -> None:
    """Refuse bytes of another length or digest than another file says."""
    if described.get("length", len(data)) != len(data):
        raise metadata.refuse("%s is %d bytes long, not %d" % (what, len(data), described["length"]))
    for name, digest in described.get("hashes", {}).items():
        if hashlib.new(name, data).hexdigest() != digest:
            raise metadata.refuse("%s does not have the %s that was signed" % (what, name))


def _next_timestamp(root: Metadata, held: Optional[Metadata], data: Optional[bytes]) -> Metadata:
    """Section 5.4. Equal versions: the one that the board has."""
    if data is None:
        if held is None:
            raise metadata.refuse("there is no timestamp")
        return held
    new = metadata.parse(data, TIMESTAMP)
    _require_role(root, new)
    if held is None:
        return new
    if new.version < held.version:
        raise _rollback("the timestamp", new.version, held.version)
    if new.version == held.version:
        return held
    ours, theirs = (file.signed["meta"]["snapshot.json"]["version"] for file in (held, new))
    if theirs < ours:
        raise _rollback("the snapshot that the timestamp names", theirs, ours)
    return new


def _either(
    held: Optional[Metadata], data: Optional[bytes], version: int, what: str, check: Callable[[bytes], Metadata]
) -> Metadata:
    """The file that the board has in the version that is wanted, if it is still good; else the one that came."""
    if held is not None and held.version == version:
        try:
            return check(held.text)
        except Refusal:
            if data is None:
                raise
    if data is None:
        raise metadata.refuse("there is no %s version %d" % (what, version))
    return check(data)


def _next_snapshot(
    root: Metadata, timestamp: Metadata, held: Optional[Metadata], data: Optional[bytes], now: float
) -> Metadata:
    """Section 5.5."""
    described = timestamp.signed["meta"]["snapshot.json"]

    def check(text: bytes) -> Metadata:
        if held is None or text != held.text:
            _require_file(described, text, "the snapshot")
        new = metadata.parse(text, SNAPSHOT)
        _require_role(root, new)
        if held is not None:
            _require_no_older(held, new)
        _require_version(new, described["version"], "the snapshot", "the timestamp")
        require_current(new, now)
        return new

    return _either(held, data, described["version"], SNAPSHOT, check)


def _require_no_older(held: Metadata, new: Metadata) -> None:
    """Refuse a snapshot that names an older file than the one before, or one fewer."""
    for name, file in held.signed["meta"].items():
        theirs = new.signed["meta"].get(name)
        if theirs is None:
            raise metadata.refuse("the snapshot does not name %.80s any more" % name)
        if theirs["version"] < file["version"]:
            raise _rollback("%.80s in the snapshot" % name, theirs["version"], file["version"])


def _require_version(new: Metadata, version: int, what: str, who: str) -> None:
    if new.version != version:
        raise metadata.refuse("%s has version %d, %s names %d" % (what, new.version, who, version))


class _Delegator(NamedTuple):
    """Who names a role of type targets, and with which keys."""

    name: str
    keys: Mapping[str, Any]
    role: Mapping[str, Any]


def _targets_file(
    snapshot: Metadata, delegator: _Delegator, held: Optional[Metadata], data: Optional[bytes], now: float
) -> Metadata:
    """Section 5.6, for the targets and for each role that they delegate to."""
    name = delegator.name
    described = snapshot.signed["meta"].get(name + ".json")
    if described is None:
        raise metadata.refuse("the snapshot does not name %s.json" % name)

    def check(text: bytes) -> Metadata:
        _require_file(described, text, "the metadata of %s" % name)
        new = metadata.parse(text, TARGETS)
        what = "%s version %d" % (name, new.version)
        require_signed(delegator.keys, delegator.role, new.payload, new.signatures, what)
        _require_version(new, described["version"], name, "the snapshot")
        require_current(new, now, name)
        return new

    return _either(held, data, described["version"], name, check)


def delegations(file: Metadata) -> List[Dict[str, Any]]:
    """Roles that a file of type targets delegates to, in their order."""
    found: List[Dict[str, Any]] = file.signed.get("delegations", {}).get("roles", [])
    return found


def _delegated(
    snapshot: Metadata, targets: Metadata, held: Delegated, files: Mapping[str, bytes], now: float
) -> Delegated:
    """Every role that is delegated to, however deeply, under each role that does so (5.6.7)."""
    ours = {name: file for (_, name), file in held.items()}
    found: Delegated = {}
    waiting = [(TARGETS, targets)]
    while waiting:
        parent, delegator = waiting.pop()
        for role in delegations(delegator):
            name = role["name"]
            if (parent, name) in found:
                continue
            if len(found) == MOST_ROLES:
                raise metadata.refuse("more than %d roles are delegated" % MOST_ROLES)
            named_by = _Delegator(name, delegator.signed["delegations"]["keys"], role)
            file = _targets_file(snapshot, named_by, ours.get(name), files.get(name), now)
            found[parent, name] = file
            waiting.append((name, file))
    return found


def update(trusted: Trusted, incoming: Incoming, now: float) -> Trusted:
    """What the board trusts after an update.

    Args:
        trusted: What it trusts now, with the newest root (`follow_roots`).
        incoming: The files that came.
        now: Time to hold expiry against, in seconds since the epoch.

    Raises:
        Refusal: ``expired``, ``bad_metadata``, ``bad_signature`` or ``rollback_attack``.
    """
    root = trusted.root
    require_current(root, now)
    timestamp = _next_timestamp(root, _still_signed(root, trusted.timestamp), incoming.timestamp)
    require_current(timestamp, now)
    snapshot = _next_snapshot(root, timestamp, _still_signed(root, trusted.snapshot), incoming.snapshot, now)
    by_root = _Delegator(TARGETS, root.signed["keys"], root.signed["roles"][TARGETS])
    targets = _targets_file(snapshot, by_root, trusted.targets, incoming.targets, now)
    delegated = _delegated(snapshot, targets, trusted.delegated, incoming.delegated, now)
    return Trusted(root, timestamp, snapshot, targets, delegated)
