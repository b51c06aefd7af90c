"""Links that are switched in one step, second names for files, and their digests: what a release is made of."""

import errno
import hashlib
import os
import shutil

from edgeopt_runner.storage import sync

_CHUNK_BYTES = 1 << 20
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


def point(link: str, target: str) -> None:
    """Make the symbolic link `link` lead to `target` in one step, durably; there is never no link in between."""
    folder, name = os.path.split(link)
    temporary = os.path.join(folder, ".tmp-%s-%d" % (name, os.getpid()))
    remove_file(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)
    sync(folder)


def remove_file(path: str) -> None:
    """Unlink a file or link; nothing happens where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def link_or_copy(source: str, destination: str) -> None:
    """Give a file a second name; where the file system has no hard links, a copy."""
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, destination)
        sync(destination)


def can_link(path: str) -> bool:
    """Whether a file can be given a second name here, or would be copied; tried beside it."""
    second = "%s.link-%d" % (path, os.getpid())
    remove_file(second)
    try:
        os.link(path, second)
    except OSError as error:
        return error.errno not in _NO_LINKS
    remove_file(second)
    return True


def sha256_of(path: str) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        for block in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()
