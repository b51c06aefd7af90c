"""The artifact store: files by the SHA-256 of their bytes, written once and never changed.

A file appears under its digest only by an atomic rename of a whole, synced copy, so a process killed at any moment
leaves at most a `.part` file, and two writers of the same bytes cannot disturb each other. No lock is needed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from edgeopt.core.model import Artifact
from edgeopt.errors import StoreError

_CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GRACE_SECONDS = 3600.0


class ArtifactStore:
    """Content-addressed files below one folder, which is made on first use.

    Args:
        root: The folder: `objects/` holds the files, `partial/` unfinished ones, `quarantine/` damaged ones.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, path: Path, format: str, *, move: bool = False) -> Artifact:
        """Put a file into the store; nothing is written when its bytes are there already.

        Args:
            path: The file. It is copied: a hard link would let a later edit of the user's file change the store.
            format: What it is, for example ``onnx``.
            move: Hand the file over: it is hard-linked where the file system allows, and gone from `path` afterwards.

        Raises:
            StoreError: It cannot be read, it changed while it was read, or the store has no room or is not writable.
        """
        path = path.resolve()
        with _reading(path):
            digest, size_bytes = _digest_of(path)
        if not self._refresh(digest, size_bytes):
            self._place(digest, size_bytes, lambda part: _link_or_copy(path, part) if move else _copy(path, part))
        if move and path != self._object(digest).resolve():
            path.unlink(missing_ok=True)
        return Artifact(digest=digest, size_bytes=size_bytes, format=format)

    def add_bytes(self, data: bytes, format: str) -> Artifact:
        """Put bytes into the store.

        Raises:
            StoreError: The store has no room or is not writable.
        """
        digest = hashlib.sha256(data).hexdigest()
        if not self._refresh(digest, len(data)):
            self._place(digest, len(data), lambda part: _write(data, part))
        return Artifact(digest=digest, size_bytes=len(data), format=format)

    def has(self, digest: str) -> bool:
        """Whether a file with this digest is in the store."""
        return self._object(digest).is_file()

    def path(self, artifact: Artifact | str) -> Path:
        """Where the file is; open it for reading only.

        Args:
            artifact: The artifact or its digest. With an artifact the length is checked too.

        Raises:
            StoreError: It is not in the store, or has another length than the artifact says.
        """
        digest = artifact if isinstance(artifact, str) else artifact.digest
        found = self._object(digest)
        try:
            size_bytes = found.stat().st_size
        except OSError:
            raise StoreError(
                f"artifact {digest[:12]} is not in the store at {self.root}.",
                remedy="Run the command that made it again: it is made anew.",
            ) from None
        if isinstance(artifact, Artifact) and size_bytes != artifact.size_bytes:
            raise self._quarantined(digest, f"has {size_bytes} bytes instead of {artifact.size_bytes}")
        return found

    def verify(self, digest: str) -> Path:
        """Read the file again and compare its digest; a damaged file is moved to `quarantine/`.

        Raises:
            StoreError: It is missing, unreadable or damaged.
        """
        found = self.path(digest)
        with _reading(found):
            actual, _ = _digest_of(found)
        if actual != digest:
            raise self._quarantined(digest, f"now has the digest {actual[:12]}")
        return found

    def remove_unreferenced(self, keep: Collection[str], *, older_than_seconds: float = _GRACE_SECONDS) -> int:
        """Remove files that nothing refers to, and what killed processes left unfinished.

        Args:
            keep: Digests that stay.
            older_than_seconds: Younger files stay too: another process may be about to refer to them.

        Returns:
            Bytes freed.
        """
        freed_bytes = 0
        for found in [*self.root.glob("objects/*/*"), *self.root.glob("partial/*")]:
            with contextlib.suppress(FileNotFoundError):
                status = found.stat()
                # The time of the last link, write or touch: a hard link keeps its source's modification time.
                if found.name not in keep and time.time() - status.st_ctime >= older_than_seconds:
                    found.unlink()
                    freed_bytes += status.st_size
        return freed_bytes

    def _object(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest[:80]!r} is not a SHA-256 digest.", remedy="Give 64 hexadecimal digits.")
        return self.root / "objects" / digest[:2] / digest

    def _refresh(self, digest: str, size_bytes: int) -> bool:
        """Whether the whole file is there; then it counts as new, so that nobody removes it before we refer to it."""
        found = self._object(digest)
        with contextlib.suppress(OSError):
            os.utime(found)
        return found.is_file() and found.stat().st_size == size_bytes

    def _place(self, digest: str, size_bytes: int, fill: Callable[[Path], str]) -> None:
        """Let `fill` make a `.part` file of the digest that it returns, then give it its name."""
        target = self._object(digest)
        with self._writing(size_bytes):
            partial = self.root / "partial"
            for folder in (target.parent, partial):
                folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=partial, prefix=f"{digest}.", suffix=".part")
            os.close(descriptor)
            part = Path(name)
            try:
                if fill(part) != digest:
                    raise StoreError(f"artifact {digest[:12]} changed while it was read.", remedy="Try again.")
                part.chmod(0o444)
                _sync(part)
                part.replace(target)
                for folder in (target.parent, target.parent.parent):
                    _sync(folder)
            finally:
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self, size_bytes: int) -> Iterator[None]:
        """Turn what the operating system says about the store's disk into our error."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            if error.errno not in _FULL:
                raise StoreError(
                    f"cannot write to the store at {self.root}: {error.strerror}.",
                    remedy="Make the folder writable, or set EDGEOPT_HOME to another one.",
                ) from None
            raise StoreError(
                f"the store at {self.root} has no room: {size_bytes} bytes needed, {self._free_bytes()} free.",
                remedy="Free some space, or set EDGEOPT_HOME to a folder on another disk.",
            ) from None

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def _quarantined(self, digest: str, what: str) -> StoreError:
        folder = self.root / "quarantine"
        folder.mkdir(parents=True, exist_ok=True)
        self._object(digest).replace(folder / digest)
        return StoreError(
            f"artifact {digest[:12]} is damaged: it {what}. It was moved to {folder}.",
            remedy="Run the command that made it again, and check the disk.",
        )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot read {path}: {error.strerror}.", remedy="Check the path and its permissions."
        ) from None


def _digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 and length of a file."""
    with open(path, "rb") as source:
        return _stream(source, None)


def _stream(source: BinaryIO, sink: BinaryIO | None) -> tuple[str, int]:
    """Read to the end, hashing, and writing to `sink` where there is one."""
    sha256, size_bytes = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        sha256.update(chunk)
        size_bytes += len(chunk)
        if sink is not None:
            sink.write(chunk)
    return sha256.hexdigest(), size_bytes


def _copy(path: Path, part: Path) -> str:
    with open(path, "rb") as source, open(part, "wb") as sink:
        return _stream(source, sink)[0]


def _link_or_copy(path: Path, part: Path) -> str:
    part.unlink()
    try:
        os.link(path, part)
    except OSError:  # another file system, or one without links
        return _copy(path, part)
    return _digest_of(part)[0]


def _write(data: bytes, part: Path) -> str:
    part.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
