"""Changes the signed tree of releases, and signs what boards are to be sent of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import TargetFile

from edgeopt.errors import SigningError
from edgeopt.home import home
from edgeopt.remote.lockfile import locked
from edgeopt.signing import roles
from edgeopt.signing.edition import Edition, keys_of, old_roles, unsigned_roles
from edgeopt.signing.files import MetadataSet, write_public
from edgeopt.signing.key_folder import KeyFolder
from edgeopt.signing.reading import SIGNER, SignedTree, Target, target_of

_NONCE = re.compile(r"[0-9a-f]{64}\Z")


class Repository(SignedTree):
    """The signed tree in a folder, to be read and changed. Safe to use from several threads and processes.

    Args:
        folder: Default: ``releases`` in `edgeopt.home`.
        keys: Private keys; default: ``keys`` in `edgeopt.home`.
    """

    def __init__(self, folder: Path | None = None, keys: KeyFolder | None = None) -> None:
        super().__init__(folder or home() / "releases")
        self.keys = keys or KeyFolder()
        self._changed: dict[str, TargetFile | None] = {}

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
            path: ``releases/<app>/<version>.json``, ``rollouts/<app>.json`` or ``runner/<name>``.
            data: Its bytes.

        Raises:
            SigningError: The path is under none of them.
        """
        parts = path.split("/")
        if parts[0] not in SIGNER or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            raise SigningError(
                f"{path!r} is no path of a target.", remedy="Put it under releases/, runner/ or rollouts/."
            )
        described = TargetFile.from_data(path, data)
        write_public(self.target_path(path, described), data)
        with self._lock:
            self._changed[path] = described
        return target_of(path, described)

    def remove_target(self, path: str) -> None:
        """Let a file be a target no more, once `publish` has signed that; its bytes stay for who reads the old tree."""
        with self._lock:
            self._changed[path] = None

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

    def publish(self, now: float | None = None) -> frozenset[str]:
        """Sign what was added or removed, and everything that is due.

        Returns:
            Roles that have new files; empty: nothing was to be done.

        Raises:
            PendingError: Keys of other people are needed (`approval`).
            SigningError: A key is missing or locked, or the root has expired.
        """
        with self._lock, self.changing():
            edition = self.edition(_or_now(now))
            for path, described in self._changed.items():
                role = SIGNER[path.split("/")[0]]
                signed = edition.next.of(role).signed.targets
                if signed.get(path) != described:
                    if described is None:
                        del signed[path]
                    else:
                        signed[path] = described
                    edition.renew(role)
            written = self._finish(edition)
            self._changed.clear()
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

    def freshness(self, nonce: str, now: float | None = None) -> dict[str, Any]:
        """The answer to a board's nonce: signed together with the time and the timestamp's version.

        Args:
            nonce: 64 hex digits.
            now: Seconds since the epoch.

        Raises:
            SigningError: It is no nonce, or the timestamp's key is not here.
        """
        return self._freshness(self.current(), nonce, _or_now(now))

    def _freshness(self, current: MetadataSet, nonce: str, now: float) -> dict[str, Any]:
        if not _NONCE.match(nonce):
            raise SigningError(f"the board's nonce is {nonce[:80]!r}.", remedy="Its runner is damaged or hostile.")
        signed = {
            "_type": "freshness",
            "nonce": nonce,
            "spec_version": "1",
            "time": int(now),
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
        read = self._read()  # all is of this set, whatever another process writes meanwhile
        current = read.current
        _require_current(current, moment)
        newest, theirs = current.root.signed.version, int(versions["root"])
        if theirs > newest:
            raise SigningError(
                f"the board trusts root version {theirs}, this tree has {newest}.", remedy="Use the newest copy of it."
            )
        sent: dict[str, Any] = {
            "roots": [read.document("root", version, self.files) for version in range(theirs + 1, newest + 1)],
            "delegated": {},
            "freshness": self._freshness(current, str(versions["nonce"]), moment),
        }
        for role in ("timestamp", "snapshot", "targets", "rollouts"):
            version = current.of(role).signed.version
            known = versions.get("delegated", {}) if role == "rollouts" else versions
            if sent["roots"] or known.get(role) != version:
                place = sent["delegated"] if role == "rollouts" else sent
                place[role] = read.document(role, version, self.files)
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
