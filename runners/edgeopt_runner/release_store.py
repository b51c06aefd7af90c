"""One application's releases on disk: numbered folders, the `current` and `previous` links, and what may be deleted.

    apps/<name>/lock, journal.jsonl, current -> releases/<n>, previous -> releases/<m>, golden -> releases/<g>
    apps/<name>/releases/<n>/model.<format>, golden.npz, manifest.json, .inuse, and of a fleet's release release.json

A release is complete from the moment its folder bears a number, and never changes after. An application that runs one
holds a shared flock on its `.inuse`; deleting takes that flock for itself first.
"""

import contextlib
import fcntl
import os
import re
import shutil
from typing import Any, Dict, Iterable, Iterator, List, Optional

from edgeopt_runner import faults, links, protocol, release_manifest, storage
from edgeopt_runner.journal import Journal
from edgeopt_runner.locks import FileLock
from edgeopt_runner.refusals import Refusal

KEEP = 3
MANIFEST = "manifest.json"
IN_USE = ".inuse"
LOCK = "lock"
POINTERS = ("current", "previous", "golden")
_TARGET = re.compile(r"releases/([1-9][0-9]{0,8})\Z")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}\Z")


class ReleaseStore:
    """The releases of one application.

    Args:
        root: The runner's folder.
        name: The application.

    Raises:
        Refusal: The name is not a plain one.
    """

    def __init__(self, root: str, name: Any) -> None:
        self.root = root
        self.name = name
        self.path = storage.app_folder(root, name)
        self.journal = Journal(os.path.join(self.path, "journal.jsonl"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the application for changes.

        Raises:
            Refusal: Someone else holds it (`busy`).
        """
        storage.make_folders(os.path.join(self.path, "releases"))
        lock = FileLock(os.path.join(self.path, LOCK))
        if not lock.acquire():
            message = "another activation of %s is under way on this device" % self.name
            raise Refusal(protocol.BUSY, message, "Try again when it has ended.")
        try:
            yield
        finally:
            lock.release()

    def folder(self, number: int) -> str:
        """The folder of release `number`."""
        return os.path.join(self.path, "releases", str(number))

    def pointer(self, name: str) -> Optional[int]:
        """The release that a pointer (of `POINTERS`) leads to; `None` where there is no such link."""
        try:
            match = _TARGET.match(os.readlink(os.path.join(self.path, name)))
        except FileNotFoundError:
            return None
        return int(match.group(1)) if match else None

    def point(self, name: str, number: Optional[int]) -> None:
        """Make a pointer lead to a release, or to none, durably."""
        link = os.path.join(self.path, name)
        if number is not None:
            links.point(link, "releases/%d" % number)
            return
        links.remove_file(link)
        storage.sync(self.path)

    def numbers(self) -> List[int]:
        """The releases that are there, oldest first."""
        try:
            names = os.listdir(os.path.join(self.path, "releases"))
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if _NUMBER.match(name))

    def next_number(self) -> int:
        """A number that no release of this application ever had."""
        return max(self.numbers() + [int(self.journal.last().get("highest", 0))]) + 1

    def manifest(self, number: int) -> Dict[str, Any]:
        """What release `number` says about itself.

        Raises:
            Refusal: It is not there or cannot be read.
        """
        manifest = storage.read_json(os.path.join(self.folder(number), MANIFEST))
        if not release_manifest.is_sound(manifest):
            raise Refusal(protocol.ERROR, "release %d of %s has no readable manifest" % (number, self.name))
        return manifest

    def verify(self, number: int) -> Dict[str, Any]:
        """Hash the files of a release against its manifest, and return the manifest.

        Raises:
            Refusal: A file is missing or differs (`digest_mismatch`).
        """
        manifest = self.manifest(number)
        for role, entry in sorted(manifest["files"].items()):
            try:
                found = links.sha256_of(os.path.join(self.folder(number), entry["name"]))
            except FileNotFoundError:
                found = "no such file"
            if found != entry["sha256"]:
                values = (role, number, self.name, entry["sha256"][:12], found[:12])
                message = "the %s of release %d of %s is damaged: expected %s, found %s" % values
                raise Refusal(protocol.DIGEST_MISMATCH, message, "Deploy it again.")
        return manifest

    def fit(self, number: Optional[int], revoked: Iterable[str] = ()) -> bool:
        """Whether a release may run: there, undamaged by its digests, and of a version that is not revoked.

        A read that fails is tried once more: going on to the next release for a passing error would be wrong.
        """
        if number is None:
            return False
        for _ in range(2):
            try:
                return self.verify(number).get("version") not in list(revoked)
            except OSError:
                continue
            except Refusal:
                break
        return False

    def intact(self, number: int) -> bool:
        """Whether the files of a release are there in their full sizes; cheap, no hashing."""
        try:
            for entry in self.manifest(number)["files"].values():
                if os.stat(os.path.join(self.folder(number), entry["name"])).st_size != entry["size"]:
                    return False
        except (OSError, Refusal):
            return False
        return True

    def stage(self, manifest: Dict[str, Any], transaction: str) -> None:
        """Build the release that `manifest` describes from the objects, and give it its number when it is links.

        Raises:
            Refusal: An object is missing (`missing_object`) or not what its name says (`digest_mismatch`).
        """
        releases = os.path.join(self.path, "releases")
        temporary = os.path.join(releases, ".tmp-" + transaction)
        os.mkdir(temporary)
        faults.point("release.link", match=self.name)
        for entry in manifest["files"].values():
            entry["size"] = self._bring(entry["sha256"], os.path.join(temporary, entry["name"]))
        open(os.path.join(temporary, IN_USE), "wb").close()
        storage.write_json(os.path.join(temporary, MANIFEST), release_manifest.sealed(manifest))
        faults.point("release.rename", match=self.name)
        os.rename(temporary, self.folder(manifest["release"]))
        storage.sync(releases)

    def _bring(self, digest: str, destination: str) -> int:
        """Link one object in, checked; returns its size in bytes."""
        try:
            links.link_or_copy(storage.object_path(self.root, digest), destination)
        except FileNotFoundError:
            raise Refusal(protocol.MISSING_OBJECT, "object %s is not on this device" % digest[:12], "Send it first.")
        found = links.sha256_of(destination)
        if found != digest:
            links.remove_file(storage.object_path(self.root, digest))  # or nobody would ever send it again
            message = "object %s has the digest %s: it was damaged on this device" % (digest[:12], found[:12])
            raise Refusal(protocol.DIGEST_MISMATCH, message, "Send it again.")
        storage.sync(destination)
        return os.stat(destination).st_size

    def discard(self, number: int) -> bool:
        """Delete a release unless an application holds it or a pointer leads to it; tells whether it is gone."""
        if number in [self.pointer(name) for name in POINTERS]:
            return False
        folder = self.folder(number)
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(open(os.path.join(folder, IN_USE), "ab"))
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                return not os.path.exists(folder)
            except (BlockingIOError, PermissionError):
                return False
            doomed = os.path.join(self.path, "releases", ".tmp-gone-%d" % number)
            os.rename(folder, doomed)
            storage.sync(os.path.dirname(doomed))  # or a power cut may bring the name back, and not all that was in it
            shutil.rmtree(doomed, ignore_errors=True)
        return True

    def prune(self) -> None:
        """Delete leftovers of interruptions, and all but the newest, the pointed-to and the held releases."""
        self.sweep()
        for number in self.numbers()[:-KEEP]:
            self.discard(number)

    def spare(self) -> List[int]:
        """Releases that no pointer leads to: what may go when room is short, where no application holds it."""
        kept = [self.pointer(name) for name in POINTERS]
        return [number for number in self.numbers() if number not in kept]

    def sweep(self) -> None:
        """Delete half-made folders, links and journals that an interruption left behind."""
        for path in self.leftovers():
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                links.remove_file(path)

    def leftovers(self) -> List[str]:
        """Half-made folders, links and journals; of a change that is under way, where there is one."""
        found: List[str] = []
        for folder in (self.path, os.path.join(self.path, "releases")):
            with contextlib.suppress(FileNotFoundError):
                found += [os.path.join(folder, name) for name in os.listdir(folder) if _is_leftover(name)]
        return found


def _is_leftover(name: str) -> bool:
    return name.startswith(".tmp-") or storage.TEMPORARY.match(name) is not None
