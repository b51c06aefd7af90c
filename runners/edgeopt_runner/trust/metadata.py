"""Parses a file of signed metadata and refuses what is not exactly of the shape that the specification gives.

Strict where python-tuf is lenient: duplicate keys, numbers that are not whole or beyond 63 bits, keys other than
Ed25519, targets without SHA-256 and fields of other types than specified are refused; unknown fields stay, and are
signed.
"""

import calendar
import json
import re
import time
from typing import Any, Dict, List, NamedTuple, Tuple

from edgeopt_runner.protocol import BAD_METADATA
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import canonical

ROOT, TIMESTAMP, SNAPSHOT, TARGETS = TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
LIMIT_BYTES = {ROOT: 512000, TIMESTAMP: 16384, SNAPSHOT: 2000000, TARGETS: 5000000}
"""Longest file of each type, as python-tuf's client has them."""

SCHEME = "ed25519"
HASHES = ("sha256", "sha512")
_LARGEST = 2**63 - 1
_DEEPEST = 24
_MOST_KEYS = 64
_HEX32 = re.compile(r"[0-9a-fA-F]{64}\Z")
_EXPIRES = re.compile(r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_SPEC = re.compile(r"1\.\d{1,6}(\.\d{1,6})?\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class Metadata(NamedTuple):
    """A file that parsed; nothing is said of its signatures yet.

    Attributes:
        role: Its type: one of `TOP_LEVEL`.
        version: From 1.
        expires: Seconds since the epoch.
        signed: The part that is signed.
        signatures: Hex by key identifier.
        payload: The bytes that the signatures are over.
        text: The file.
    """

    role: str
    version: int
    expires: int
    signed: Dict[str, Any]
    signatures: Dict[str, str]
    payload: bytes
    text: bytes


def refuse(what: str) -> Refusal:
    """The refusal of metadata that is not of the right shape."""
    return Refusal(BAD_METADATA, what, "Publish the release again with edgeopt and send it again.")


def _require(condition: bool, what: str, value: Any = "") -> None:
    if not condition:
        raise refuse("%s is not as specified: %.80r" % (what, value))


def _whole(text: str) -> int:
    _require(len(text) <= 20, "a number", text)
    return int(text)


def _fraction(text: str) -> Any:
    raise refuse("number %.40s is not whole" % text)


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    _require(len(found) == len(pairs), "an object with one key twice", [key for key, _ in pairs][:8])
    return found


def load(data: bytes, limit: int, what: str) -> Dict[str, Any]:
    """A JSON object of untrusted bytes: bounded in length, depth and numbers, no key twice.

    Raises:
        Refusal: ``bad_metadata``.
    """
    if len(data) > limit:
        raise refuse("%s is %d bytes long, at most %d are allowed" % (what, len(data), limit))
    hooks = {"parse_int": _whole, "parse_float": _fraction, "parse_constant": _fraction}
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, **hooks)  # type: ignore[arg-type]
        _check_depth(found, _DEEPEST)
    except RecursionError:
        raise refuse("%s is nested too deeply" % what)
    except ValueError as error:
        raise refuse("%s is not JSON: %.80s" % (what, error))
    _require(isinstance(found, dict), what, found)
    return found  # type: ignore[no-any-return]


def _check_depth(value: Any, left: int) -> None:
    _require(left > 0, "the depth of nesting")
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)
    elif isinstance(value, int):
        _require(abs(value) <= _LARGEST, "a number", value)


def _field(holder: Any, name: str, kind: Any) -> Any:
    """A field of the right type; a bool is no number."""
    _require(isinstance(holder, dict), "what has the field %s" % name, holder)
    value = holder.get(name)
    _require(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), name, value)
    return value


def _number(holder: Any, name: str, least: int) -> int:
    value = _field(holder, name, int)
    _require(value >= least, name, value)
    return value  # type: ignore[no-any-return]


def _seconds(text: str) -> int:
    _require(bool(_EXPIRES.match(text)), "expires", text)
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError):
        raise refuse("expires is no time: %.80r" % text)


def _check_keys(keys: Dict[str, Any]) -> None:
    _require(len(keys) <= _MOST_KEYS, "the number of keys", len(keys))
    for key in keys.values():
        kinds = (_field(key, "keytype", str), _field(key, "scheme", str))
        _require(kinds == (SCHEME, SCHEME), "a key (this board verifies Ed25519 only)", kinds)
        _require(bool(_HEX32.match(_field(_field(key, "keyval", dict), "public", str))), "a public key", key)


def _check_role(role: Any) -> None:
    names = _field(role, "keyids", list)
    _require(len(names) <= _MOST_KEYS and all(isinstance(name, str) for name in names), "keyids", names)
    _require(len(set(names)) == len(names), "keyids", names)
    _number(role, "threshold", 1)


def _check_hashes(holder: Any) -> None:
    hashes = _field(holder, "hashes", dict)
    _require(bool(hashes), "hashes", hashes)
    for name, digest in hashes.items():
        _require(name in HASHES and isinstance(digest, str), "hashes", hashes)


def _check_files(files: Dict[str, Any]) -> None:
    for name, file in files.items():
        _require(bool(name), "the name of a metadata file", name)
        _number(file, "version", 1)
        if "length" in file:
            _number(file, "length", 0)
        if "hashes" in file:
            _check_hashes(file)


def _check_root(signed: Dict[str, Any]) -> None:
    _check_keys(_field(signed, "keys", dict))
    roles = _field(signed, "roles", dict)
    _require(set(roles) == set(TOP_LEVEL), "roles", sorted(roles))
    for role in roles.values():
        _check_role(role)
    if "consistent_snapshot" in signed:
        _field(signed, "consistent_snapshot", bool)


def _check_timestamp(signed: Dict[str, Any]) -> None:
    files = _field(signed, "meta", dict)
    _require(set(files) == {"snapshot.json"}, "meta of the timestamp", sorted(files))
    _check_files(files)


def _check_snapshot(signed: Dict[str, Any]) -> None:
    _check_files(_field(signed, "meta", dict))


def _check_targets(signed: Dict[str, Any]) -> None:
    for path, file in _field(signed, "targets", dict).items():
        _number(file, "length", 0)
        _check_hashes(file)
        _require(bool(_HEX32.match(_field(file["hashes"], "sha256", str))), "sha256 of %.80s" % path, file)
    if "delegations" in signed:
        _check_delegations(_field(signed, "delegations", dict))


def _check_delegations(delegations: Dict[str, Any]) -> None:
    _check_keys(_field(delegations, "keys", dict))
    _require("succinct_roles" not in delegations, "delegations (succinct roles are not known here)")
    names = []
    for role in _field(delegations, "roles", list):
        names.append(_field(role, "name", str))
        _require(bool(_NAME.match(names[-1])) and names[-1] not in TOP_LEVEL, "the name of a role", names[-1])
        _check_role(role)
        _field(role, "terminating", bool)
        _require(("paths" in role) != ("path_hash_prefixes" in role), "what a role is for", role)
        patterns = _field(role, "paths" if "paths" in role else "path_hash_prefixes", list)
        _require(all(isinstance(text, str) and len(text) <= 256 for text in patterns), "patterns of paths", patterns)
    _require(len(set(names)) == len(names), "delegations with one role twice", names)


_CHECKS = {ROOT: _check_root, TIMESTAMP: _check_timestamp, SNAPSHOT: _check_snapshot, TARGETS: _check_targets}


def signatures_of(entries: List[Any]) -> Dict[str, str]:
    """Signatures by key, none twice. Raises Refusal ``bad_metadata``."""
    _require(len(entries) <= _MOST_KEYS, "the number of signatures", len(entries))
    found: Dict[str, str] = {}
    for entry in entries:
        name = _field(entry, "keyid", str)
        _require(name not in found, "a second signature of one key", name)
        found[name] = _field(entry, "sig", str)
    return found


def parse(data: bytes, role: str) -> Metadata:
    """A file of metadata of the type `role`.

    Raises:
        Refusal: ``bad_metadata``.
    """
    document = load(data, LIMIT_BYTES[role], "the %s metadata" % role)
    signed = _field(document, "signed", dict)
    _require(signed.get("_type") == role, "the type of the %s metadata" % role, signed.get("_type"))
    _require(bool(_SPEC.match(_field(signed, "spec_version", str))), "spec_version", signed["spec_version"])
    version, expires = _number(signed, "version", 1), _seconds(_field(signed, "expires", str))
    signatures = signatures_of(_field(document, "signatures", list))
    _CHECKS[role](signed)
    try:
        payload = canonical.encode(signed)
    except ValueError as error:
        raise refuse("the %s metadata cannot be written canonically: %.80s" % (role, error))
    return Metadata(role, version, expires, signed, signatures, payload, data)
