"""The signed tree of releases: manifests and rollout files among the targets, models among the blobs.

``metadata/`` (see `files`), ``targets/<folder>/<sha256>.<name>`` (consistent snapshots: no file is ever replaced) and
``blobs/<sha256>``, which manifests name. The whole folder can be served by anything that serves files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import TargetFile

from edgeopt.errors import SigningError
from edgeopt.home import home
from edgeopt.remote.lockfile import locked
from edgeopt.signing import roles
from edgeopt.signing.edition import Edition, keys_of, old_roles, unsigned_roles
from edgeopt.signing.files import MetadataFiles, MetadataSet, write_public
from edgeopt.signing.key_folder import KeyFolder

_NONCE = re.compile(r"[0-9a-f]{64}\Z")
_PREFIX = {"releases": "targets", "rollouts": "rollouts"}
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
        self.documents: dict[tuple[str, int], dict[str, Any]] = {}


class Repository:
    """The signed tree in a folder. Safe to use from several threads and processes.

    Args:
        folder: Default: ``releases`` in `edgeopt.home`.
        keys: Private keys; default: ``keys`` in `edgeopt.home`.
    """

    def __init__(self, folder: Path | None = None, keys: KeyFolder | None = None) -> None:
        self.folder = folder or home() / "releases"
        self.keys = keys or KeyFolder()
        self.files = MetadataFiles(self.folder / "metadata")
        self._added: dict[str, TargetFile] = {}
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

    def _document(self, role: str, version: int) -> dict[str, Any]:
        """A file as plain data, parsed once however many boards are sent it."""
        known = self._read().documents
        if (role, version) not in known:
            known[role, version] = _plain(self.files.text(role, version))
        return known[role, version]

    def edition(self, now: float) -> Edition:
        """The next set of metadata, to be changed under `changing`."""
        return Edition(self.files, self.keys, now)

    def changing(self) -> Any:
        """Hold the tree: one writer at a time. Raises SigningError where there is none."""
        self.current()
        return locked(self.folder / "metadata")

    def add_target(self, path: str, data: bytes) -> Target:
        """Put a file among the targets; it counts once `publish` has signed it.

        Args:
            path: ``releases/<app>/<version>.json`` or ``rollouts/<app>.json``.
            data: Its bytes.

        Raises:
            SigningError: The path is under neither.
        """
        parts = path.split("/")
        if parts[0] not in _PREFIX or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            raise SigningError(f"{path!r} is no path of a target.", remedy="Put it under releases/ or rollouts/.")
        described = TargetFile.from_data(path, data)
        write_public(self._target_path(path, described), data)
        with self._lock:
            self._added[path] = described
        return _target(path, described)

    def _target_path(self, path: str, described: TargetFile) -> Path:
        parent, _, name = path.rpartition("/")
        return self.folder / "targets" / parent / f"{described.hashes['sha256']}.{name}"

    def put_blob(self, source: Path, digest: str) -> Path:
        """Put a model or golden file among the blobs; one that is there is not read again.

        Raises:
            SigningError: The bytes of `source` do not have that SHA-256, or cannot be read or written.
        """
        path = self.blob_path(digest)
        if not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _copy(source, path, digest)
            except OSError as error:
                raise SigningError(f"cannot copy {source} to {path}: {error}.", remedy="Free some space.") from None
        return path

    def blob_path(self, digest: str) -> Path:
        """Where the blob of a SHA-256 is, or would be."""
        return self.folder / "blobs" / digest

    def publish(self, now: float | None = None) -> frozenset[str]:
        """Sign what was added, and everything that is due.

        Returns:
            Roles that have new files; empty: nothing was to be done.

        Raises:
            PendingError: Keys of other people are needed (`approval`).
            SigningError: A key is missing or locked, or the root has expired.
        """
        with self._lock, self.changing():
            edition = self.edition(_or_now(now))
            for path, described in self._added.items():
                role = _PREFIX[path.split("/")[0]]
                signed = edition.next.of(role).signed.targets
                if path not in signed or signed[path] != described:
                    signed[path] = described
                    edition.renew(role)
            written = self._finish(edition)
            self._added.clear()
            return written

    def refresh(self, now: float | None = None, *, also: tuple[str, ...] = ()) -> frozenset[str]:
        """Sign again what is past half of its life and can be signed unattended, and the roles `also`.

        Raises:
            PendingError, SigningError: As `publish`.
        """
        moment = _or_now(now)
        if not also and not old_roles(self.current(), moment) and not self._read().unsigned:
            return frozenset()
        with self._lock, self.changing():
            edition = self.edition(moment)
            for role in also:
                edition.renew(roles.policy(role).name)
            return self._finish(edition)

    def _finish(self, edition: Edition) -> frozenset[str]:
        for role in [*old_roles(edition.next, edition.now), *unsigned_roles(edition.next)]:
            edition.renew(role)
        return edition.finish()

    def targets(self, app: str) -> tuple[Target, ...]:
        """Signed manifests of an app, by path."""
        return self.listed(f"releases/{app}/")

    def listed(self, prefix: str = "") -> tuple[Target, ...]:
        """Signed files under a prefix, by path. Raises SigningError."""
        current = self.current()
        found = {**current.rollouts.signed.targets, **current.targets.signed.targets}
        return tuple(_target(path, found[path]) for path in sorted(found) if path.startswith(prefix))

    def read(self, path: str) -> bytes:
        """The bytes of a signed file.

        Raises:
            SigningError: It is not signed, or its bytes are missing or others than were signed.
        """
        current = self.current()
        role = _PREFIX.get(path.split("/")[0], "targets")
        described = current.of(role).signed.targets.get(path)
        if described is None:
            raise SigningError(f"{path} is not published in {self.folder}.", remedy="Publish it: edgeopt publish.")
        where = self._target_path(path, described)
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
        return self._document("root", self.current().root.signed.version)

    def freshness(self, nonce: str, now: float | None = None) -> dict[str, Any]:
        """The answer to a board's nonce: signed together with the time and the timestamp's version.

        Args:
            nonce: 64 hex digits.
            now: Seconds since the epoch.

        Raises:
            SigningError: It is no nonce, or the timestamp's key is not here.
        """
        if not _NONCE.match(nonce):
            raise SigningError(f"the board's nonce is {nonce[:80]!r}.", remedy="Its runner is damaged or hostile.")
        current = self.current()
        signed = {
            "_type": "freshness",
            "nonce": nonce,
            "spec_version": "1",
            "time": int(_or_now(now)),
            "timestamp_version": current.timestamp.signed.version,
        }
        payload = str(encode_canonical(signed)).encode()
        with self._lock:
            signers = [self.keys.signer(key) for key in keys_of(current, "timestamp")]
        signatures = [signer.sign(payload).to_dict() for signer in signers if signer is not None]
        if not signatures:
            raise SigningError(f"no key of timestamp is in {self.keys.folder}.", remedy="Put it back there.")
        return {"signed": signed, "signatures": signatures}

    def metadata_for_push(self, versions: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
        """What a board lacks, as the parameters of the verb ``trust_update``.

        Args:
            versions: What the board answered to ``trust``: versions by role, ``delegated`` by name, ``nonce``.
            now: Seconds since the epoch; what is due is signed again first.

        Raises:
            SigningError: The board has a newer root than this tree, something has expired, or a key is missing.
        """
        moment = _or_now(now)
        self.refresh(moment)
        current = self.current()
        _require_current(current, moment)
        newest, theirs = current.root.signed.version, int(versions["root"])
        if theirs > newest:
            raise SigningError(
                f"the board trusts root version {theirs}, this tree has {newest}.", remedy="Use the newest copy of it."
            )
        sent: dict[str, Any] = {
            "roots": [self._document("root", version) for version in range(theirs + 1, newest + 1)],
            "delegated": {},
            "freshness": self.freshness(str(versions["nonce"]), moment),
        }
        for role in ("timestamp", "snapshot", "targets", "rollouts"):
            version = current.of(role).signed.version
            known = versions.get("delegated", {}) if role == "rollouts" else versions
            if sent["roots"] or known.get(role) != version:
                place = sent["delegated"] if role == "rollouts" else sent
                place[role] = self._document(role, version)
        return sent


def _require_current(current: MetadataSet, now: float) -> None:
    for policy in roles.POLICIES:
        expires = current.of(policy.name).signed.expires
        if expires.timestamp() <= now:
            raise SigningError(
                f"what {policy.name} signed expired on {expires:%Y-%m-%d %H:%M} UTC; no board would take it.",
                remedy=f"Sign it again: edgeopt keys refresh {policy.name}.",
            )


def _or_now(now: float | None) -> float:
    return time.time() if now is None else now


def _plain(text: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document


def _target(path: str, described: TargetFile) -> Target:
    return Target(path, described.hashes["sha256"], described.length)


def _copy(source: Path, path: Path, digest: str) -> None:
    """Copy a file under a temporary name, hash it, and rename it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{digest[:16]}.")
    os.close(descriptor)
    try:
        shutil.copyfile(source, temporary)
        with open(temporary, "rb+") as stream:
            found = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                found.update(chunk)
            os.fsync(stream.fileno())
        if found.hexdigest() != digest:
            raise SigningError(f"{source} does not have SHA-256 {digest}.", remedy="Make the file again.")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
