"""Locks that the kernel drops with their holder: one job a board, one supervisor a job, one receiver an object.

`flock`, not lock files with a pid in them: those survive `kill -9` and then lie.
"""

import fcntl
import os
from typing import Optional

from edgeopt_runner import processes

LOCK_VARIABLE = "EDGEOPT_LOCK"
_SHARED_FOLDER = "/run/lock"


def board_lock_path(root: str) -> str:
    """The lock that every job on this board takes, whichever account or root it comes from.

    ``$EDGEOPT_LOCK``, else ``/run/lock/edgeopt.lock`` where that folder is open to all, else ``<root>/device.lock``.
    """
    explicit = os.environ.get(LOCK_VARIABLE)
    if explicit:
        return explicit
    if os.access(_SHARED_FOLDER, os.W_OK | os.X_OK):
        return os.path.join(_SHARED_FOLDER, "edgeopt.lock")
    return os.path.join(root, "device.lock")


def open_shared(path: str) -> int:
    """Open a file that other accounts may open too, making it when it is not there; never through a symbolic link.

    Opened without O_CREAT first: in a sticky folder the kernel refuses O_CREAT on files of others
    (``fs.protected_regular``).
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        os.fchmod(descriptor, 0o666)
        return descriptor


class FileLock:
    """An exclusive lock on a file, which also tells who holds it.

    Args:
        path: The lock file; made when it is not there.
        shared: Whether others may have it at the same time who say so too; it does not tell who they are.
    """

    def __init__(self, path: str, shared: bool = False) -> None:
        self.path = path
        self._shared = shared
        self._descriptor: Optional[int] = None

    def acquire(self) -> bool:
        """Take the lock if it is free, without waiting. Raises OSError when the file cannot be opened."""
        while True:
            descriptor = open_shared(self.path)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if self._is_current(descriptor):
                break
            os.close(descriptor)  # it was removed between open and flock: that lock is nobody's
        self._descriptor = descriptor
        if self._shared:
            return True
        who = processes.identity(os.getpid())
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d %d" % (who["pid"], who["start_ticks"] or 0), 0)
        except OSError:
            pass  # on a full disk the lock is ours all the same, without a name
        return True

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def holder(self) -> Optional[int]:
        """Pid of the process that wrote itself into the file and still runs; ``None`` otherwise."""
        try:
            with open(self.path, "rb") as stream:
                pid, ticks = (int(word) for word in stream.read(64).split())
        except (OSError, ValueError):
            return None
        return pid if processes.start_ticks(pid) == ticks else None

    def release(self, remove: bool = False) -> None:
        """Give the lock back, and take the file away with `remove`; nothing happens when it is not held."""
        if self._descriptor is None:
            return
        if remove:
            os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = None
