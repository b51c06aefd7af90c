"""The metadata files of a tree: reading the set that is current, writing the next one so that a crash leaves the old.

``metadata/<n>.root.json``, ``<n>.targets.json``, ``<n>.rollouts.json``, ``<n>.snapshot.json`` are never changed once
something names them; ``timestamp.json`` names the rest and is replaced last.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from edgeopt import documents
from edgeopt.errors import SigningError
from edgeopt.signing import roles

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)
_RESTORE = "Restore the folder from its copy; nothing was changed."


def expiry(now: float, lifetime_seconds: float) -> dt.datetime:
    """The time until which a signature made `now` is good."""
    return dt.datetime.fromtimestamp(int(now + lifetime_seconds), dt.timezone.utc)


@dataclass
class MetadataSet:
    """The files that are current, and belong together."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    rollouts: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    def of(self, role: str) -> Metadata[Any]:
        """The file of a role."""
        found: Metadata[Any] = getattr(self, role)
        return found

    def unsigned(self, role: str) -> bool:
        """Whether the keys that count for a role have not signed its file (often enough)."""
        file, delegator = self.of(role), self.targets if role == roles.ROLLOUTS.name else self.root
        try:
            delegator.signed.verify_delegate(role, file.signed_bytes, file.signatures)
        except (RepositoryError, ValueError):
            return True
        return False


class MetadataFiles:
    """The folder ``metadata`` of a tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, role: str, version: int) -> Path:
        """Where a version of a role's file is."""
        if role == roles.TIMESTAMP.name:
            return self.folder / "timestamp.json"
        return self.folder / f"{version}.{role}.json"

    def exists(self) -> bool:
        """Whether there is a tree."""
        return self.path("timestamp", 0).exists()

    def read(self, kind: type[T], role: str, version: int) -> Metadata[T]:
        """A file.

        Raises:
            SigningError: It is missing, damaged or of another role or version.
        """
        return parse(kind, self.text(role, version), str(self.path(role, version)))

    def text(self, role: str, version: int) -> bytes:
        """The bytes of a file. Raises SigningError."""
        path = self.path(role, version)
        try:
            return path.read_bytes()
        except OSError as error:
            raise SigningError(f"cannot read {path}: {error.strerror}.", remedy=_RESTORE) from None

    def root_version(self) -> int:
        """Version of the newest root; 0: there is none."""
        versions = [path.name.split(".")[0] for path in self.folder.glob("*.root.json")]
        return max((int(version) for version in versions if version.isdigit()), default=0)

    def load(self) -> MetadataSet:
        """The current set.

        Raises:
            SigningError: There is no tree, or a file of it is missing or damaged.
        """
        if not self.exists():
            raise SigningError(
                f"{self.folder.parent} has no signed tree.", remedy="Make keys first: edgeopt keys init."
            )
        root = self.read(Root, "root", self.root_version())  # first: what follows is signed for the root before, too
        timestamp = self.read(Timestamp, "timestamp", 0)
        snapshot = self.read(Snapshot, "snapshot", timestamp.signed.snapshot_meta.version)
        versions = {role: self._named(snapshot, role) for role in (roles.TARGETS.name, roles.ROLLOUTS.name)}
        targets, rollouts = (self.read(Targets, role, version) for role, version in versions.items())
        return MetadataSet(root, targets, rollouts, snapshot, timestamp)

    def _named(self, snapshot: Metadata[Snapshot], role: str) -> int:
        if f"{role}.json" not in snapshot.signed.meta:
            path = self.path("snapshot", snapshot.signed.version)
            raise SigningError(f"{path} does not name {role}.json.", remedy=_RESTORE)
        return snapshot.signed.meta[f"{role}.json"].version

    def write(self, role: str, file: Metadata[Any]) -> None:
        """Write one file, durably."""
        write_public(self.path(role, file.signed.version), file.to_bytes())

    def commit(self, current: MetadataSet, changed: frozenset[str]) -> None:
        """Write what changed, the timestamp last: until then the set before is current."""
        for role in ("targets", "rollouts", "snapshot", "timestamp"):
            if role in changed:
                self.write(role, current.of(role))


def name_versions(current: MetadataSet) -> None:
    """Make snapshot and timestamp name the versions of the others."""
    current.snapshot.signed.meta = {
        f"{role}.json": MetaFile(current.of(role).signed.version) for role in ("rollouts", "targets")
    }
    current.timestamp.signed.snapshot_meta = MetaFile(current.snapshot.signed.version)


def write_public(path: Path, data: bytes) -> None:
    """Write a file of the tree, atomically; anybody may read it, a web server above all.

    Raises:
        SigningError: It cannot be written.
    """
    try:
        documents.write_atomically(path, data)
        path.chmod(0o644)
    except OSError as error:
        raise SigningError(
            f"cannot write {path}: {error.strerror}.", remedy="Free some space, or check its folder."
        ) from None


def parse(kind: type[T], data: bytes, where: str) -> Metadata[T]:
    """Metadata of a kind. Raises SigningError."""
    try:
        found: Metadata[T] = Metadata.from_bytes(data)
    except DeserializationError:
        raise SigningError(f"{where} is not signed metadata.", remedy=_RESTORE) from None
    if not isinstance(found.signed, kind):
        raise SigningError(f"{where} is of type {found.signed.type}, not {kind.type}.", remedy=_RESTORE)
    return found
