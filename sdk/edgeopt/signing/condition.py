"""How the keys of a tree stand: who must sign what, what is here, and what expires when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeopt.signing import roles
from edgeopt.signing.edition import keys_of
from edgeopt.signing.repository import Repository

_SOON = {"root": 30 * roles.DAY_SECONDS, "targets": 14 * roles.DAY_SECONDS}


@dataclass(frozen=True)
class KeyCondition:
    """A key that counts.

    Attributes:
        keyid: Its identifier.
        here: Whether its private half is in the key folder.
    """

    keyid: str
    here: bool


@dataclass(frozen=True)
class RoleCondition:
    """How a role stands.

    Attributes:
        role, purpose: Its name, and what it is for.
        threshold: How many keys must sign.
        keys: Those that count.
        version: Of its file.
        expires: Seconds since the epoch.
        state: ``soon``: a person has to sign again in the next weeks; ``renewed``: it expired, and is signed again by
            itself with the next command; ``unsigned``: the keys that count have not signed.
    """

    role: str
    purpose: str
    threshold: int
    keys: tuple[KeyCondition, ...]
    version: int
    expires: int
    state: Literal["good", "soon", "expired", "renewed", "unsigned"]


def conditions(repository: Repository, now: float) -> tuple[RoleCondition, ...]:
    """How every role stands at a time. Raises SigningError where there is no tree."""
    return tuple(_condition(repository, policy, now) for policy in roles.POLICIES)


def _condition(repository: Repository, policy: roles.RolePolicy, now: float) -> RoleCondition:
    current = repository.current()
    file = current.of(policy.name)
    delegator = current.targets.signed if policy is roles.ROLLOUTS else current.root.signed
    keys = tuple(
        KeyCondition(key.keyid, repository.keys.find(key.keyid) is not None) for key in keys_of(current, policy.name)
    )
    expires = int(file.signed.expires.timestamp())
    return RoleCondition(
        policy.name,
        policy.purpose,
        delegator.get_delegated_role(policy.name).threshold,
        keys,
        file.signed.version,
        expires,
        "unsigned" if current.unsigned(policy.name) else _state(policy, keys, expires - now),
    )


def _state(
    policy: roles.RolePolicy, keys: tuple[KeyCondition, ...], left_seconds: float
) -> Literal["good", "soon", "expired", "renewed"]:
    if left_seconds > 0:
        return "soon" if left_seconds < _SOON.get(policy.name, 0) else "good"
    return "expired" if policy.offline or not any(key.here for key in keys) else "renewed"
