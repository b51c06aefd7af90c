"""The verbs ``trust``, ``enrol`` and ``trust_update``: how a host pins a root and sends what it signs."""

import json
import time
from typing import Any, Dict, List, Mapping

from edgeopt_runner.protocol import ALREADY_ENROLLED, BAD_REQUEST, NOT_ENROLLED, STALE
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import chain, metadata, state, targets
from edgeopt_runner.trust.chain import Incoming, Trusted
from edgeopt_runner.trust.freshness import Statement
from edgeopt_runner.trust.metadata import SNAPSHOT, TARGETS, TIMESTAMP

_MOST_ROOTS = 256
_CLOCK_SECONDS = 3600


def _file(value: Any, what: str) -> bytes:
    """The bytes of a metadata file that came as an object: as edgeopt and python-tuf write it."""
    if not isinstance(value, dict):
        raise Refusal(BAD_REQUEST, "%s is %.80r" % (what, value), "Send the metadata as an object.")
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise metadata.refuse("%s cannot be read: %.80s" % (what, error))


def _clock_off_seconds(now: int) -> int:
    """How far this board's clock is from a signed time; 0 within an hour, or where there is no such time."""
    seconds = int(time.time()) - now
    return seconds if now and abs(seconds) > _CLOCK_SECONDS else 0


def trust(root: str, _params: Mapping[str, Any]) -> Dict[str, Any]:
    """What the board trusts, and a nonce that an update has to answer."""
    with state.locked(root):
        return _told(root)


def _told(root: str, signed_time: int = 0) -> Dict[str, Any]:
    found = targets.summary(root)
    found["nonce"] = state.fresh_nonce(root) if found["enrolled"] else ""
    # without a time that was signed just now only a clock that is behind can be told
    past = min(0, _clock_off_seconds(found["last_trusted_time"]))
    found["clock_off_seconds"] = _clock_off_seconds(signed_time) if signed_time else past
    return found


def enrol(root: str, params: Mapping[str, Any]) -> Dict[str, Any]:
    """Pin a root where none is pinned; a root that is pinned already is fine.

    Raises:
        Refusal: ``already_enrolled``, ``bad_metadata`` or ``bad_signature``.
    """
    new = chain.first_root(_file(params.get("root"), "root"))
    replace = params.get("replace", False)
    if not isinstance(replace, bool):
        raise Refusal(BAD_REQUEST, "replace is %.80r" % (replace,), "Send true or false.")
    with state.locked(root):
        pinned = list(state.roots(root))
        if any(known.payload == new.payload for known in pinned):
            return _told(root)
        if pinned and not replace:
            message = "this board trusts another root, version %d" % pinned[0].version
            raise Refusal(ALREADY_ENROLLED, message, "If the board is to change hands: edgeopt device enrol --replace.")
        state.replace_root(root, new)
        return _told(root)


def _incoming(params: Mapping[str, Any]) -> Incoming:
    delegated = params.get("delegated", {})
    if not isinstance(delegated, dict) or len(delegated) > chain.MOST_ROLES:
        raise Refusal(BAD_REQUEST, "delegated is %.80r" % (delegated,), "Send an object of metadata by role.")
    top = [_file(params[name], name) if name in params else None for name in (TIMESTAMP, SNAPSHOT, TARGETS)]
    return Incoming(top[0], top[1], top[2], {name: _file(value, name) for name, value in delegated.items()})


def _roots(params: Mapping[str, Any]) -> List[bytes]:
    files = params.get("roots", [])
    if not isinstance(files, list) or len(files) > _MOST_ROOTS:
        raise Refusal(BAD_REQUEST, "roots is %.80r" % (files,), "Send a list of metadata.")
    return [_file(value, "a root") for value in files]


def _advanced(root: str, params: Mapping[str, Any]) -> Trusted:
    """What is trusted with the newest root, which is kept at once."""
    held = state.load(root)
    if held is None:
        raise Refusal(NOT_ENROLLED, "this board trusts no root yet", "Enrol it: edgeopt device enrol NAME.")
    followed = chain.follow_roots(held.root, _roots(params))
    state.keep_roots(root, followed)
    return held._replace(root=followed[-1]) if followed else held


def _since(held: Trusted, known: state.Memory) -> int:
    """Where time begins: after a rotation of the timestamp's keys what those had signed counts no more."""
    return 0 if chain.lost_timestamp(held) else known.last_trusted_time


def trust_update(root: str, params: Mapping[str, Any]) -> Dict[str, Any]:
    """Verify metadata that a host sends with an answer to this board's nonce, and keep them.

    The clock is not asked: expiry is held against the time that the host signed, or the last trusted one if later.

    Raises:
        Refusal: ``not_enrolled``, ``stale``, ``expired``, ``bad_metadata``, ``bad_signature`` or ``rollback_attack``.
    """
    incoming = _incoming(params)
    if params.get("freshness") is None:
        raise Refusal(STALE, "the update bears no statement of freshness", "Sign the nonce that the verb trust gives.")
    statement = Statement(_file(params["freshness"], "freshness"))
    with state.locked(root):
        held, known = _advanced(root, params), state.memory(root)
        statement.require(held.root, known.nonces)
        now = max(statement.time, _since(held, known))
        trusted = chain.update(held, incoming, now)
        statement.require_version(trusted.timestamp.version if trusted.timestamp else 0)
        nonces = tuple(nonce for nonce in known.nonces if nonce != statement.nonce)
        state.keep(root, trusted, known._replace(nonces=nonces, last_trusted_time=now))
        return _told(root, statement.time)


def pulled(root: str, params: Mapping[str, Any], clock: float) -> Dict[str, Any]:
    """Verify metadata that the board fetched by itself, and keep them.

    Args:
        root: The runner's root.
        params: As of ``trust_update``, without ``freshness``.
        clock: The board's own, in seconds since the epoch. Nothing is kept of it; behind the last trusted time, that
            counts.

    Raises:
        Refusal: As `trust_update`, without ``stale``.
    """
    incoming = _incoming(params)
    with state.locked(root):
        held, known = _advanced(root, params), state.memory(root)
        since = _since(held, known)
        trusted = chain.update(held, incoming, max(clock, since))
        state.keep(root, trusted, known._replace(last_trusted_time=since))
        return dict(targets.summary(root), clock_off_seconds=min(0, _clock_off_seconds(since)))
