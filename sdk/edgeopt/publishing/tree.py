"""Puts a signed release tree where boards can pull it: a folder, a bucket, anything that fsspec writes to.

What bears its digest or version in its name goes first and is never changed; what makes it count goes last: roots
right before the timestamp, which is the one file that is replaced. A board that polls in between sees the old tree.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgeopt.errors import StoreError, ToolError, UsageError

Progress = Callable[[str, int], None]
"""Hears of every file that was sent: its path in the tree and its bytes."""

TIMESTAMP = "metadata/timestamp.json"
_SETTLED = re.compile(r"metadata/(?P<version>[1-9][0-9]*)\.(?P<role>[A-Za-z0-9._-]+)\.json")
_CONTENT = ("blobs", "targets")
_LISTS = "patches"
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "memory"})
"""Stores where a file appears whole or not at all; elsewhere it is renamed into place."""


@dataclass(frozen=True)
class Pushed:
    """What was brought to a store.

    Attributes:
        url: The store.
        sent_files, sent_bytes: What was sent now.
        kept_files: What was there already.
    """

    url: str
    sent_files: int
    sent_bytes: int
    kept_files: int


def push_tree(tree: Path, url: str, progress: Progress | None = None, *, verify: bool = False) -> Pushed:
    """Bring a release tree to a store; what is there already is not sent again.

    Args:
        tree: Folder with ``metadata/``, ``targets/``, ``blobs/`` and ``patches/``, if there are any.
        url: Folder of the store: a path, ``s3://bucket/prefix``, whatever fsspec knows.
        progress: Hears of every file.
        verify: Read what is there and compare it with its digest; else a file of the right size counts as whole.

    Raises:
        UsageError: The address is none, or there is no tree.
        ToolError: The package for that kind of store is not installed.
        StoreError: The store cannot be read or written; what arrived stays, and the next push goes on from there. Or,
            with `verify`, a file is damaged there and here.
    """
    files = _in_order(tree)
    with named(url):
        store = _Store(url)
        there = store.sizes()
        sent: list[int] = []
        for path in files:
            if store.bring(tree / path, path, there, verify=verify):
                sent.append((tree / path).stat().st_size)
                if progress is not None:
                    progress(path, sent[-1])
    return Pushed(url, len(sent), sum(sent), len(files) - len(sent))


def _in_order(tree: Path) -> list[str]:
    """Paths of the files, in the order in which they may appear.

    Raises:
        UsageError: There is no tree.
    """
    if not (tree / TIMESTAMP).is_file():
        raise UsageError(f"there is no release tree in {tree}.", remedy="Publish a release first: edgeopt publish.")
    content = [path for folder in _CONTENT for path in _below(tree, folder)]
    settled = [match for path in _below(tree, "metadata") if (match := _SETTLED.fullmatch(path))]
    others = [match[0] for match in settled if match["role"] != "root"]
    roots = sorted((match for match in settled if match["role"] == "root"), key=lambda match: int(match["version"]))
    return [*content, *_below(tree, _LISTS), *others, *(match[0] for match in roots), TIMESTAMP]


def _below(tree: Path, folder: str) -> list[str]:
    found = [path for path in sorted((tree / folder).rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return [path.relative_to(tree).as_posix() for path in found]


class _Store:
    """A folder of a file system of fsspec."""

    def __init__(self, url: str) -> None:
        self._fs, self._base, self._atomic = file_system(url)

    def sizes(self) -> dict[str, int]:
        """Sizes of all files that are there, by path below the folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._base, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._base.rstrip("/")) + 1
        return {path[start:]: int(facts["size"] or 0) for path, facts in found.items()}

    def bring(self, file: Path, path: str, there: dict[str, int], *, verify: bool) -> bool:
        """Put a file there, unless it is; whether it was sent."""
        if there.get(path) == file.stat().st_size and self._whole(file, path, verify=verify):
            return False
        target = posixpath.join(self._base, path)
        if self._atomic:
            self._fs.put_file(str(file), target)
            return True
        self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
        partial = posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.part")
        self._fs.put_file(str(file), partial)
        self._rename(partial, target)
        return True

    def _whole(self, file: Path, path: str, *, verify: bool) -> bool:
        """Whether a file of the right size there is right: content by the digest that it is named by."""
        if not path.startswith(_CONTENT):
            return bool(self._fs.cat_file(posixpath.join(self._base, path)) == file.read_bytes())
        if not verify:
            return True
        with self._fs.open(posixpath.join(self._base, path), "rb") as stream:
            if _names(stream, file):
                return True
        with file.open("rb") as stream:
            if not _names(stream, file):
                remedy = f"Delete {file} and publish its release again."
                raise StoreError(f"{path} is damaged here and in the store.", remedy=remedy)
        return False

    def _rename(self, partial: str, target: str) -> None:
        if "file" in _protocols(self._fs):
            descriptor = os.open(partial, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            os.replace(partial, target)
            return
        self._fs.mv(partial, target)


def _names(stream: IO[bytes], file: Path) -> bool:
    """Whether a file is named by the digest of these bytes."""
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return file.name.partition(".")[0] == digest.hexdigest()


def file_system(url: str) -> tuple[Any, str, bool]:
    """The file system of an address, the folder in it, and whether files appear there whole.

    Raises:
        UsageError: The address is none.
        ToolError: The package for that kind of store is not installed.
    """
    try:
        import fsspec.core
    except ImportError:
        raise _not_installed(url, "fsspec is not installed") from None
    try:
        fs, base = fsspec.core.url_to_fs(url, **_options(url))
    except ImportError as error:
        raise _not_installed(url, " ".join(str(error).split())) from None
    except ValueError as error:
        raise UsageError(
            f"{url!r} is no address of a store: {error}.", remedy="Give a folder or s3://BUCKET/PREFIX."
        ) from None
    if not fs.root_marker and not base.strip("/"):
        raise UsageError(f"{url!r} names no bucket.", remedy="Give s3://BUCKET/PREFIX.")
    return fs, str(base), bool(_ATOMIC & set(_protocols(fs)))


def _options(url: str) -> dict[str, Any]:
    """What the library of a store has to be told.

    Checksums behind the body came to S3 in 2024, and many servers that speak S3 refuse them; boards hold every byte
    against a signed digest anyway.
    """
    if not url.startswith(("s3://", "s3a://")):
        return {}
    checksums = {"request_checksum_calculation": "when_required"}
    return {"config_kwargs": checksums, "skip_instance_cache": True, "use_listings_cache": False}


def _not_installed(url: str, why: str) -> ToolError:
    return ToolError(f"cannot write to {url}: {why}.", remedy="Install it: pip install 'edgeopt[publish]'.")


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


@contextlib.contextmanager
def named(url: str) -> Iterator[None]:
    """Whatever a store's library raises becomes an error that names the store."""
    try:
        yield
    except (UsageError, ToolError, StoreError):
        raise
    except PermissionError as error:
        said = " ".join(str(error).split())
        raise StoreError(f"{url} may not be written: {said}.", remedy="Check the credentials and the bucket.") from None
    except OSError as error:
        said = " ".join(str(error).split())
        raise StoreError(f"{url} cannot be written: {said}.", remedy="Publish again; it goes on from there.") from None
    except Exception as error:  # the rim: every library has exceptions of its own for a server that is not there
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StoreError(f"{url} cannot be written: {said}.", remedy="Is the server there?") from None
