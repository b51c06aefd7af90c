"""A signed tree in memory that anybody may spoil, and python-tuf's own client logic over it, to hold the board's to."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import EqualVersionNumberError, RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

NOW = 1_800_000_000
DAY = 86400
TOP = ("root", "timestamp", "snapshot", "targets")


@functools.lru_cache(maxsize=64)
def signer(number: int) -> CryptoSigner:
    """A key that is the same in every run."""
    seed = hashlib.sha256(b"key %d" % number).digest()
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed))


def when(seconds: int) -> str:
    """A time as metadata have it."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def signed_file(signed: dict[str, Any], *numbers: int) -> dict[str, Any]:
    """Metadata, signed with these keys."""
    payload = str(encode_canonical(signed)).encode("utf-8", "surrogatepass")
    return {"signed": signed, "signatures": [signer(number).sign(payload).to_dict() for number in numbers]}


def text(document: dict[str, Any]) -> bytes:
    """The bytes of a file."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class Files:
    """What a host sends: bytes of files, the roots in their order."""

    roots: list[bytes]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    delegated: dict[str, bytes]


@dataclass
class World:
    """The owner of a tree: keys by role, thresholds, versions.

    `spoil` has functions by role that change the signed part before it is signed (``before``) or the file (``after``).
    """

    keys: dict[str, list[int]] = field(
        default_factory=lambda: {"root": [0], "timestamp": [1], "snapshot": [2], "targets": [3], "rollouts": [4]}
    )
    threshold: dict[str, int] = field(default_factory=dict)
    version: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*TOP, "rollouts"), 1))
    expires: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*TOP, "rollouts"), NOW + 30 * DAY))
    signing: dict[str, list[int]] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)
    before: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    after: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    roots: list[bytes] = field(default_factory=list)
    next_key: int = 5

    def copy(self) -> World:
        """Another world with the same history."""
        return copy.deepcopy(self)

    def _common(self, kind: str, role: str) -> dict[str, Any]:
        return {
            "_type": kind,
            "spec_version": "1.0.31",
            "version": self.version[role],
            "expires": when(self.expires[role]),
        }

    def _role(self, role: str) -> dict[str, Any]:
        keyids = [signer(number).public_key.keyid for number in self.keys[role]]
        return {"keyids": keyids, "threshold": self.threshold.get(role, 1)}

    def _keys(self, *roles: str) -> dict[str, Any]:
        found = [signer(number).public_key for role in roles for number in self.keys[role]]
        return {key.keyid: key.to_dict() for key in found}

    def _file(self, role: str, signed: dict[str, Any], numbers: list[int] | None = None) -> bytes:
        self.before.get(role, lambda _signed: None)(signed)
        try:
            document = signed_file(signed, *self.signing.get(role, numbers or self.keys[role]))
        except Exception:  # what python-tuf cannot sign, nobody can
            document = {"signed": signed, "signatures": []}
        self.after.get(role, lambda _document: None)(document)
        return text(document)

    def add_root(self, *, also: list[int] | None = None) -> None:
        """The next root, signed with the keys of the one before, too."""
        roles = {role: self._role(role) for role in TOP}
        signed = dict(self._common("root", "root"), keys=self._keys(*TOP), roles=roles, consistent_snapshot=True)
        self.roots.append(self._file("root", signed, sorted({*self.keys["root"], *(also or [])})))

    def _named(self, *roles: str) -> dict[str, Any]:
        return {f"{role}.json": {"version": self.named.get(role, self.version[role])} for role in roles}

    def _targets(self, role: str, path: str) -> dict[str, Any]:
        data = b"version %d" % self.version[role]
        described = {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
        return dict(self._common("targets", role), targets={path: described})

    def files(self) -> Files:
        """All of it as it would be sent."""
        delegation = dict(self._role("rollouts"), name="rollouts", paths=["rollouts/*"], terminating=True)
        targets = dict(
            self._targets("targets", "releases/app/1.json"),
            delegations={"keys": self._keys("rollouts"), "roles": [delegation]},
        )
        return Files(
            list(self.roots),
            self._file("timestamp", dict(self._common("timestamp", "timestamp"), meta=self._named("snapshot"))),
            self._file("snapshot", dict(self._common("snapshot", "snapshot"), meta=self._named("targets", "rollouts"))),
            self._file("targets", targets),
            {"rollouts": self._file("rollouts", self._targets("rollouts", "rollouts/app.json"))},
        )

    def publish(self) -> None:
        """New versions of all but the root."""
        for role in ("timestamp", "snapshot", "targets", "rollouts"):
            self.version[role] += 1

    def rotate(self, role: str) -> None:
        """Another key for a role; the root follows, and what the role signs."""
        before = self.keys["root"]
        self.keys[role] = [self.next_key]
        self.next_key += 1
        self.version["root"] += 1
        self.add_root(also=before)
        self.publish()


def first_world() -> World:
    """A tree with one root."""
    world = World()
    world.add_root()
    return world


class Oracle:
    """python-tuf's client: what it holds, and what becomes of an update."""

    def __init__(self, root: bytes) -> None:
        self.roots = [root]
        self.held: dict[str, bytes] = {}
        self.used: dict[str, bytes] = {}

    def update(self, files: Files, now: int) -> TrustedMetadataSet:
        """The set that it trusts after the update, as `tuf.ngclient.Updater.refresh` comes to it.

        Raises:
            RepositoryError: It refuses.
        """
        trusted = TrustedMetadataSet(self.roots[0], EnvelopeType.METADATA)
        trusted.reference_time = dt.datetime.fromtimestamp(now, dt.timezone.utc)
        for data in self.roots[1:]:
            trusted.update_root(data)
        for data in files.roots[trusted.root.version :]:
            trusted.update_root(data)
        self.used = {}
        self._either(trusted.update_timestamp, "timestamp", files.timestamp, always=True)
        self._either(trusted.update_snapshot, "snapshot", files.snapshot, trusted=True)
        self._either(trusted.update_targets, "targets", files.targets)
        delegations = trusted.targets.delegations
        for name in (delegations.roles or {}) if delegations is not None else ():
            update = functools.partial(trusted.update_delegated_targets, role_name=name, delegator_name="targets")
            self._either(update, name, files.delegated[name])
        return trusted

    def _either(
        self, update: Callable[..., Any], role: str, data: bytes, *, always: bool = False, **local: Any
    ) -> None:
        """What is held, else what came (`always`: that after it), as `Updater._load_...` do it."""
        with contextlib.suppress(KeyError, RepositoryError):
            update(self.held[role], **local)
            self.used[role] = self.held[role]
        if always or role not in self.used:
            with contextlib.suppress(EqualVersionNumberError):
                update(data)
                self.used[role] = data

    def keep(self, trusted: TrustedMetadataSet, files: Files) -> None:
        """Hold what was accepted by the last update."""
        self.roots = files.roots[: trusted.root.version]
        self.held = self.used
