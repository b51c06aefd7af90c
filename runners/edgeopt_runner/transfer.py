"""Objects in and out: content-addressed, resumable, verified before they bear their name.

One pass in one thread: it takes 500 MB/s from a pipe on an x86 core, several times what an SSH channel brings.
"""

import fcntl
import hashlib
import os
import select
import stat
import time
from typing import Any, BinaryIO, Callable, Dict, List, Tuple

from edgeopt_runner import faults, processes, storage
from edgeopt_runner.locks import FileLock
from edgeopt_runner.protocol import BUSY, DIGEST_MISMATCH, DISK_FULL, MISSING_OBJECT, TRUNCATED, frames
from edgeopt_runner.refusals import Refusal

BLOCK_BYTES = 1 << 20
MIN_MARGIN_BYTES = 16 << 20
IDLE_SECONDS = 60.0
STALLED_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
_F_SETPIPE_SZ = 1031

Tell = Callable[[Dict[str, Any]], None]
"""Sends an answer at once."""


def have(root: str, digests: List[str]) -> Dict[str, Any]:
    """Which objects are here, and how much of the others has arrived (verb ``have``)."""
    found, partial = [], {}
    for digest in digests:
        if os.path.isfile(storage.object_path(root, digest)):
            found.append(digest)
        elif os.path.exists(storage.part_path(root, digest)):
            partial[digest] = os.path.getsize(storage.part_path(root, digest))
    return {"have": found, "partial": partial}


def receive(root: str, digest: str, size: int, source: int, tell: Tell) -> None:
    """Take one object from a descriptor; see the package `protocol` for the conversation.

    Args:
        root: The runner's root.
        digest: SHA-256 of the object.
        size: Its size in bytes.
        source: Descriptor that the raw bytes come from.
        tell: Called with what is here, before any byte is awaited, and at the end.

    Raises:
        Refusal: ``disk_full``, ``truncated`` (what came is kept for the next try), ``digest_mismatch`` (nothing is
            kept), ``busy`` (another receiver works on it), ``bad_request``.
        OSError: The disk failed.
    """
    final, part = storage.object_path(root, digest), storage.part_path(root, digest)
    # before any file is made: on a disk that is full to the last page that fails without telling how much is missing
    check_space(os.path.dirname(final), 0 if os.path.isfile(final) else rest_bytes(part, size))
    lock = FileLock(final + ".lock")
    if not _wait_for_turn(lock, final, size):
        tell({"have": True, "offset": size})
        tell({"ok": True})
        return
    try:
        _receive_locked(part, final, size, source, tell)
    finally:
        lock.release(remove=True)
    tell({"ok": True})


def _wait_for_turn(lock: FileLock, final: str, size: int) -> bool:
    """Take the receiver's lock; False as soon as the object is there.

    While another receiver makes progress we wait, since its bytes are ours too. One that stalls sits on a link that
    died unnoticed: it is ended, unless it has all bytes and makes a slow disk keep them.
    """
    started = moved = time.monotonic()
    seen = None
    while not os.path.isfile(final):
        if lock.acquire():
            if not os.path.isfile(final):
                return True
            lock.release(remove=True)
            return False
        progress, now = _progress(final + ".part"), time.monotonic()
        if progress != seen or progress[0] == size:
            seen, moved = progress, now
        holder = lock.holder()
        if now - moved > STALLED_SECONDS and holder is not None:
            processes.kill(holder)
            moved = now
        if now - started > PATIENCE_SECONDS:
            raise Refusal(BUSY, "process %s is receiving %s" % (holder, os.path.basename(final)), "Try again later.")
        time.sleep(0.1)
    return False


def _progress(part: str) -> Tuple[int, int]:
    """Size of what has arrived, and when a receiver last worked on it."""
    try:
        facts = os.stat(part)
    except FileNotFoundError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def _receive_locked(part: str, final: str, size: int, source: int, tell: Tell) -> None:
    """Resume or begin the `.part` file, fill it, verify it and give it its name."""
    digest = hashlib.sha256()
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        offset = _take_up(descriptor, size, digest)
        tell({"have": False, "offset": offset})
        arrived = offset + _copy(source, descriptor, size - offset, digest)
        if arrived < size:
            raise Refusal(TRUNCATED, "%d of %d bytes arrived" % (arrived, size), "Send it again; it resumes.")
        if digest.hexdigest() != os.path.basename(final):
            os.unlink(part)
            message = "what arrived has SHA-256 %s, not %s" % (digest.hexdigest(), os.path.basename(final))
            raise Refusal(DIGEST_MISMATCH, message, "Send it again from the start.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    faults.point("transfer.before_rename", match=os.path.basename(final))
    os.replace(part, final)
    storage.sync(os.path.dirname(final))


def _take_up(descriptor: int, size: int, digest: Any) -> int:
    """Hash what is held already and stand behind it; start over when it is longer than the object."""
    if os.fstat(descriptor).st_size > size:
        os.ftruncate(descriptor, 0)
    offset = 0
    for block in iter(lambda: os.read(descriptor, BLOCK_BYTES), b""):
        digest.update(block)
        offset += len(block)
        os.utime(descriptor)  # tells who waits that we are at work
    return offset


def rest_bytes(part: str, size: int) -> int:
    """What is still to come of an object of which a `.part` file may hold a beginning."""
    held = os.path.getsize(part) if os.path.exists(part) else 0
    return size - held if held <= size else size


def check_space(folder: str, rest_bytes: int) -> None:
    """Refuse (``disk_full``) what would fill the disk of `folder`: `rest_bytes` more, and a margin, need room."""
    need = rest_bytes + max(rest_bytes // 10, MIN_MARGIN_BYTES) if rest_bytes else 0
    free = storage.free_bytes(folder)
    if free < need:
        message = "%s has %d bytes free, and %d are needed (with a margin)" % (folder, free, need)
        raise Refusal(DISK_FULL, message, "Free some space, or choose a root on another file system.")


def _copy(source: int, descriptor: int, count: int, digest: Any) -> int:
    """Move up to `count` bytes, hashing them on the way; fewer when the source ends or falls silent."""
    widen(source)
    left = count
    while left and select.select([source], [], [], IDLE_SECONDS)[0]:
        block = os.read(source, min(left, BLOCK_BYTES))
        if not block:
            break
        digest.update(block)
        left -= len(block)
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    return count - left


def widen(source: int) -> None:
    """Let a pipe hold a whole block; nothing happens where it is none."""
    if stat.S_ISFIFO(os.fstat(source).st_mode):
        try:
            fcntl.fcntl(source, _F_SETPIPE_SZ, BLOCK_BYTES)
        except OSError:
            pass  # above the user's quota of pipe pages; it works with the small pipe too


def send(root: str, digest: str, answers: BinaryIO) -> None:
    """Write a frame with the size and then the raw bytes of an object.

    Raises:
        Refusal: ``missing_object`` or ``bad_request``.
    """
    try:
        stream = open(storage.object_path(root, digest), "rb", buffering=0)
    except FileNotFoundError:
        raise Refusal(MISSING_OBJECT, "there is no object %s" % digest, "Ask `have` first.")
    with stream:
        frames.write(answers, {"size": os.fstat(stream.fileno()).st_size})
        for block in iter(lambda: stream.read(BLOCK_BYTES), b""):
            answers.write(block)
    answers.flush()
