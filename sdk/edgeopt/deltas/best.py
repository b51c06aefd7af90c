"""Chooses from what a board has the base that makes the smallest patch, and says when a patch is not worth it."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeopt.deltas.making import replace_file, write_patch
from edgeopt.deltas.operations import operations
from edgeopt.deltas.pairing import ModelFile
from edgeopt_runner.protocol.patch_format import CODECS, MARK

MOST_BASES = 8
WORTH_OF_COMPRESSED = 0.8
"""A patch on a base is sent where it takes at most this share of what the file compressed by itself takes."""

WORTH_OF_FILE = 0.9
"""A patch is sent where it takes at most this share of the file: the board has work with it."""

WORTH_ALONE = 0.75
"""A file without a base is sent compressed where that takes at most this share of it. To start a worker and to rebuild
25 MiB take a small board about three seconds; a wireless link brings the fourth part of them in that time."""


@dataclass(frozen=True)
class Patch:
    """A patch that is ready to be sent.

    Attributes:
        base: Digest of the file that it is for; empty for a file that is only compressed.
        path: The patch, named by its digest.
        digest: SHA-256 of the patch.
        size_bytes: Its length.
    """

    base: str
    path: Path
    digest: str
    size_bytes: int


def best_patch(bases: Mapping[str, Path], target: Path, algorithms: Sequence[str], folder: Path) -> Patch | None:
    """The smallest patch for a board, or ``None`` where the file is as well sent whole.

    What was found is remembered in `folder`, so that the second board with the same bases costs nothing.

    Args:
        bases: Files that the board has, by digest, the most likely first; the first eight are looked at.
        target: The file that it is to have.
        algorithms: What the board decompresses, as its ``hello`` tells (``codecs``).
        folder: Where patches are kept; made when it is not there.

    Raises:
        OSError: A file cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aim = _file(target, _stamp(target))
    wanted = {digest: bases[digest] for digest in list(bases)[:MOST_BASES] if digest != aim.digest}
    known = sorted(set(algorithms) & set(CODECS))
    note = folder / f"{_key(wanted, aim.digest, known)}.json"
    if note.exists():
        found, remembered = _recall(note, folder)
        if remembered:
            return found
    made = _make({digest: ModelFile(path) for digest, path in wanted.items()}, aim, known, folder)
    content = json.dumps(None if made is None else {**asdict(made), "path": made.path.name})
    replace_file(note, [content.encode()])
    return made


@functools.lru_cache(maxsize=4)
def _file(path: Path, _stamp: tuple[int, int, int]) -> ModelFile:
    """A target that is asked for by board after board is read and hashed once."""
    return ModelFile(path)


def _stamp(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _make(bases: Mapping[str, ModelFile], target: ModelFile, algorithms: Sequence[str], folder: Path) -> Patch | None:
    """Make the patch that the samples promise most of."""
    estimates = {digest: _estimate(base, target) for digest, base in bases.items()}
    whole = _estimate(ModelFile(None), target)
    digest = min(estimates, key=lambda one: estimates[one], default="")
    if digest and estimates[digest] <= WORTH_OF_COMPRESSED * whole:
        base = bases[digest]
    elif whole <= WORTH_ALONE * len(target.data):
        digest, base = "", ModelFile(None)
    else:
        return None
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as work:
        made = Path(work, "patch")
        report = write_patch(base, target, made, algorithms)
        if report.share > (WORTH_OF_FILE if digest else WORTH_ALONE):
            return None
        name = hashlib.sha256(made.read_bytes()).hexdigest()
        made.replace(folder / name)
    return Patch(digest, folder / name, name, report.size_bytes)


def _estimate(base: ModelFile, target: ModelFile) -> float:
    return sum(operation.estimate_bytes for operation in operations(base, target))


def _key(bases: Mapping[str, Path], target: str, algorithms: Sequence[str]) -> str:
    asked = [MARK.decode("ascii"), sorted(bases), target, list(algorithms)]
    return hashlib.sha256(json.dumps(asked).encode("ascii")).hexdigest()


def _recall(note: Path, folder: Path) -> tuple[Patch | None, bool]:
    """What a note says, and whether that still holds: the patch may have been cleared away."""
    try:
        fields = json.loads(note.read_bytes())
        if fields is None:
            return None, True
        found = Patch(**{**fields, "path": folder / fields["path"]})
        return found, found.path.stat().st_size == found.size_bytes
    except (OSError, ValueError, TypeError, KeyError):
        return None, False
