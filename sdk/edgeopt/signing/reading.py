"""Reads the signed tree of releases: what is signed, and the bytes of it; each file once, however many boards ask.

``metadata/`` (see `files`), ``targets/<folder>/<sha256>.<name>`` (consistent snapshots: no file is ever replaced) and
``blobs/<sha256>``, which manifests name. The whole folder can be served by anything that serves files.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile

from edgeopt.errors import SigningError
from edgeopt.signing.edition import unsigned_roles
from edgeopt.signing.files import MetadataFiles, MetadataSet

SIGNER = {"releases": "targets", "runner": "targets", "rollouts": "rollouts"}
"""Role that signs what is under the first folder of a target's path."""


@dataclass(frozen=True)
class Target:
    """A signed file of the tree.

    Attributes:
        path: As signed, for example ``releases/detector/1.4.0.json``.
        sha256: Of its bytes.
        length: In bytes.
    """

    path: str
    sha256: str
    length: int


class _Read:
    """What was read of a tree in one state of its files."""

    def __init__(self, state: object, current: MetadataSet) -> None:
        self.state, self.current = state, current
        self.unsigned = unsigned_roles(current)
        timestamp = current.timestamp  # the one file that is replaced: what is on disk later is of another set
        self._documents: dict[tuple[str, int], dict[str, Any]] = {
            ("timestamp", timestamp.signed.version): timestamp.to_dict()
        }

    def document(self, role: str, version: int, files: MetadataFiles) -> dict[str, Any]:
        """A file as plain data, parsed once however many boards are sent it."""
        if (role, version) not in self._documents:
            self._documents[role, version] = json.loads(files.text(role, version))
        return self._documents[role, version]


class SignedTree:
    """The signed tree in a folder, to be read.

    Args:
        folder: Where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = MetadataFiles(folder / "metadata")
        self._lock = threading.RLock()
        self._cached: _Read | None = None

    def current(self) -> MetadataSet:
        """The metadata as they are on disk; not to be changed.

        Raises:
            SigningError: There is no tree, or a file of it is missing or damaged.
        """
        return self._read().current

    def _read(self) -> _Read:
        """What was read last, or read again where another process has written since."""
        with self._lock:
            try:
                facts = os.stat(self.files.path("timestamp", 0))
                state = (facts.st_mtime_ns, facts.st_ino, self.files.root_version())
            except OSError:
                state = None
            if self._cached is None or state is None or self._cached.state != state:
                self._cached = _Read(state, self.files.load())
            return self._cached

    def target_path(self, path: str, described: TargetFile) -> Path:
        """Where the bytes of a target are, or would be."""
        parent, _, name = path.rpartition("/")
        return self.folder / "targets" / parent / f"{described.hashes['sha256']}.{name}"

    def blob_path(self, digest: str) -> Path:
        """Where the blob of a SHA-256 is, or would be."""
        return self.folder / "blobs" / digest

    def targets(self, app: str) -> tuple[Target, ...]:
        """Signed manifests of an app, by path."""
        return self.listed(f"releases/{app}/")

    def listed(self, prefix: str = "") -> tuple[Target, ...]:
        """Signed files under a prefix, by path. Raises SigningError."""
        current = self.current()
        found = {**current.rollouts.signed.targets, **current.targets.signed.targets}
        return tuple(target_of(path, found[path]) for path in sorted(found) if path.startswith(prefix))

    def read(self, path: str) -> bytes:
        """The bytes of a signed file.

        Raises:
            SigningError: It is not signed, or its bytes are missing or others than were signed.
        """
        current = self.current()
        role = SIGNER.get(path.split("/")[0], "targets")
        described = current.of(role).signed.targets.get(path)
        if described is None:
            raise SigningError(f"{path} is not published in {self.folder}.", remedy="Publish it: edgeopt publish.")
        where = self.target_path(path, described)
        try:
            data = where.read_bytes()
        except OSError as error:
            raise SigningError(f"cannot read {where}: {error.strerror}.", remedy="Restore it from a copy.") from None
        if hashlib.sha256(data).hexdigest() != described.hashes["sha256"]:
            raise SigningError(f"{where} is not what was signed.", remedy="Restore it from a copy.")
        return data

    def manifest(self, app: str, version: str) -> bytes:
        """The manifest of a release. Raises SigningError."""
        return self.read(f"releases/{app}/{version}.json")

    def latest_counter(self, app: str) -> int:
        """Highest counter of the app's releases; 0: there are none. Raises SigningError."""
        return max((int(json.loads(self.read(target.path))["counter"]) for target in self.targets(app)), default=0)

    def root(self) -> dict[str, Any]:
        """The root that boards are enrolled with. Raises SigningError."""
        read = self._read()
        return read.document("root", read.current.root.signed.version, self.files)


def target_of(path: str, described: TargetFile) -> Target:
    """A signed file, as its metadata describe it."""
    return Target(path, described.hashes["sha256"], described.length)
