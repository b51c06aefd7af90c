"""A release that an application holds: opened once, whole, safe from being deleted, whatever is activated meanwhile.

Everything is read through one descriptor of the folder: reading manifest and model by path mixes two releases when
`current` is switched in between.
"""

import fcntl
import json
import os
import time
from typing import Any, Dict, Optional

from edgeopt_runner import release_manifest
from edgeopt_runner.links import sha256_of

_ATTEMPTS = 100


class ApplicationError(RuntimeError):
    """The model cannot be had: no such app, a damaged release, or a runtime that this interpreter lacks."""


class HeldRelease:
    """A release that stays whole on disk until `close`, whatever is activated meanwhile.

    Attributes:
        number: Its number.
        manifest: What it says about itself.
        path: Its folder, through the open descriptor.
    """

    def __init__(self, folder: int, lock: int) -> None:
        self._folder, self._lock = folder, lock
        self.path = "/proc/self/fd/%d" % folder
        with open(os.path.join(self.path, "manifest.json"), encoding="utf-8") as stream:
            self.manifest: Dict[str, Any] = json.load(stream)
        if not release_manifest.is_sound(self.manifest):
            raise ValueError("its checksum or its fields are not right")
        self.number = int(self.manifest["release"])

    def file(self, role: str) -> str:
        """The path of a file, ``model`` or ``golden``, checked against the manifest.

        Raises:
            ApplicationError: Its digest differs.
        """
        entry = self.manifest["files"][role]
        path = os.path.join(self.path, entry["name"])
        digest = sha256_of(path)
        if digest != entry["sha256"]:
            text = "%s of release %d is damaged: its digest is %s, not %s. Deploy it again or roll back."
            raise ApplicationError(text % (entry["name"], self.number, digest[:12], entry["sha256"][:12]))
        return path

    def is_at(self, link: str) -> bool:
        """Whether a link leads to this release."""
        ours, theirs = os.fstat(self._folder), os.stat(link)
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)

    def close(self) -> None:
        """Let go of the release."""
        for descriptor in (self._lock, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._folder = -1


def hold(link: str) -> HeldRelease:
    """Open the release that `link` leads to and keep it from being deleted.

    Raises:
        FileNotFoundError: There is no such link.
        ApplicationError: It never held still.
    """
    for attempt in range(_ATTEMPTS):
        time.sleep(min(attempt, 10) / 1000.0)  # who tries the lock, or deletes, is done in a moment
        folder = os.open(link, os.O_RDONLY | os.O_DIRECTORY)
        try:
            held = _hold_folder(folder)
        except (FileNotFoundError, BlockingIOError):
            held = None  # it was replaced and is being deleted: the link leads elsewhere by now
        except (ValueError, KeyError, TypeError) as error:
            os.close(folder)
            raise ApplicationError("%s has no readable manifest: %r. Deploy it again." % (link, error))
        if held is not None:
            return held
        os.close(folder)
    raise ApplicationError("%s changes faster than it can be opened." % link)


def _hold_folder(folder: int) -> Optional[HeldRelease]:
    """Lock the release in an open folder; `None` where it is deleted already."""
    lock = os.open(".inuse", os.O_RDONLY, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:
            return HeldRelease(folder, lock)
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
