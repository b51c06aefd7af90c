"""One MiB that is kept so that it can be given up: going back must not fail because the disk is full."""

import errno
import os
from typing import Callable, TypeVar

from edgeopt_runner import links

NAME = "ballast"
SIZE_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


def _path(root: str) -> str:
    return os.path.join(root, NAME)


def keep(root: str) -> None:
    """Make the ballast if it is not there; a disk that is too full for it goes without."""
    path = _path(root)
    try:
        if os.stat(path).st_size == SIZE_BYTES:
            return
    except FileNotFoundError:
        pass
    try:
        with open(path, "wb") as stream:
            stream.write(os.urandom(SIZE_BYTES))  # zeros would take no room where the file system compresses
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        links.remove_file(path)


def insist(root: str, deed: Callable[[], T]) -> T:
    """Do something that may be done twice; where the disk is full, throw the ballast off and do it again."""
    try:
        return deed()
    except OSError as error:
        if error.errno not in _FULL:
            raise
    links.remove_file(_path(root))
    return deed()
