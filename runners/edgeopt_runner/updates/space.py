"""Room for a release: what it needs, what is there, and what collecting garbage would free."""

import os
from typing import Iterable, List, NamedTuple, Tuple

from edgeopt_runner import rebuilding, storage
from edgeopt_runner.links import link_or_copy, remove_file, sha256_of
from edgeopt_runner.protocol import DISK_FULL, MISSING_OBJECT, NO_INODES
from edgeopt_runner.refusals import Refusal

RESERVE_SHARE = 0.03
RESERVE_BYTES = 64 << 20
LEAST_INODES = 64
OVERHEAD_BYTES = 1 << 20

Need = NamedTuple("Need", [("sha256", str), ("size", int), ("have", int)])
"""A file that a release needs, and how many of its bytes are here."""

Room = NamedTuple("Room", [("free_bytes", int), ("need_bytes", int), ("collect_bytes", int)])
"""Space that may be filled, space that is needed (a reserve with it), and what garbage holds."""


def needs(root: str, files: Iterable[Tuple[str, int]]) -> List[Need]:
    """How much of each file is here; a damaged object is taken away, for it keeps a sound one from coming.

    Args:
        root: The runner's root.
        files: Digest and size of each.
    """
    return [Need(digest, size, _have(root, digest, size)) for digest, size in sorted(set(files))]


def _have(root: str, digest: str, size: int) -> int:
    path = storage.object_path(root, digest)
    if os.path.isfile(path):
        if sha256_of(path) == digest:
            return size
        remove_file(path)
    try:
        return size if sha256_of(rebuilding.find_base(root, digest)) == digest else 0
    except Refusal:
        pass
    try:
        return min(size, os.path.getsize(storage.part_path(root, digest)))
    except FileNotFoundError:
        return 0


def gather(root: str, digest: str) -> None:
    """Make a file that some release here has an object again.

    Raises:
        Refusal: ``missing_object``.
    """
    path = storage.object_path(root, digest)
    if os.path.isfile(path):
        return
    try:
        source = rebuilding.find_base(root, digest)
    except Refusal:
        raise Refusal(MISSING_OBJECT, "object %s is not on this device" % digest[:12], "Send it first.")
    temporary = "%s.link-%d" % (path, os.getpid())
    remove_file(temporary)
    link_or_copy(source, temporary)
    os.replace(temporary, path)


def room(root: str, wanted: Iterable[Need], scratch_bytes: int, keep: Iterable[str]) -> Room:
    """What is needed and what is there.

    Args:
        root: The runner's root.
        wanted: Files of the release.
        scratch_bytes: What staging needs beside them, copies of the files included where they cannot be linked.
        keep: Digests that collecting would leave.
    """
    facts = os.statvfs(root)
    reserve = max(int(facts.f_blocks * facts.f_frsize * RESERVE_SHARE), RESERVE_BYTES)
    missing = sum(need.size - need.have for need in wanted)
    free = facts.f_bavail * facts.f_frsize
    need = missing + scratch_bytes + reserve + OVERHEAD_BYTES
    collect = _collectable_bytes(root, keep) if free < need else 0
    return Room(free, need, collect)


def _collectable_bytes(root: str, keep: Iterable[str]) -> int:
    from edgeopt_runner import cleanup  # brings half the runner along, and is seldom asked

    return cleanup.collectable_bytes(root, keep)


def check(root: str, found: Room) -> None:
    """Refuse what would not fit even after collecting.

    Raises:
        Refusal: ``disk_full`` or ``no_inodes``.
    """
    if found.free_bytes + found.collect_bytes < found.need_bytes:
        values = (found.need_bytes / 2.0**20, found.free_bytes / 2.0**20, found.collect_bytes / 2.0**20)
        message = "the release needs %.1f MiB (a reserve with it), %.1f MiB are free and %.1f MiB could be freed"
        raise Refusal(DISK_FULL, message % values, "Free some space on the board.")
    facts = os.statvfs(root)
    if facts.f_files and facts.f_favail < LEAST_INODES:
        message = "%d inodes are free, %d are needed" % (facts.f_favail, LEAST_INODES)
        raise Refusal(NO_INODES, message, "Delete files that nobody needs on the board.")
