"""Taking things away again: what nobody refers to any more (`gc`), and everything (`clean`)."""

import os
import re
import shutil
import time
from typing import Any, Dict, Iterable, List, Set, Tuple

from edgeopt_runner import environment, jobs, leases, offspring, runtimes, storage
from edgeopt_runner.agent import FILES as AGENT_FILES
from edgeopt_runner.links import remove_file
from edgeopt_runner.locks import FileLock, board_lock_path
from edgeopt_runner.protocol import BUSY
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import LOCK, MANIFEST, ReleaseStore
from edgeopt_runner.trust import state
from edgeopt_runner.updates import ballast, events

DAY_SECONDS = 86400.0
OLD_JOB_DAYS = 7
OLD_PART_DAYS = 7
OLD_TEMPORARY_DAYS = 1
_SHA = re.compile(r"[0-9a-f]{64}\Z")
_JOB = re.compile(r"[0-9a-f]{32}\Z")
_LIVE = ("queued", "running")
_NAMED = {
    "": re.compile(re.escape(runtimes.CACHE) + r"(\.[0-9]+\.tmp)?\Z|" + re.escape(ballast.NAME) + r"\Z"),
    events.FOLDER: re.compile(re.escape(events.NAME) + r"(\.1)?\Z"),
    "runner": re.compile(r"[0-9a-f]{64}\Z|current(\.[0-9]+)?\Z"),
    "objects": re.compile(r"[0-9a-f]{64}(\.|\Z)"),
    "jobs": _JOB,
    "trust": state.NAMES,
    "agent": AGENT_FILES,
}
"""What is ours by its name, by folder."""


def _entries(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _age_days(path: str) -> float:
    try:
        return (time.time() - os.lstat(path).st_mtime) / DAY_SECONDS
    except OSError:
        return 0.0


def _size_bytes(path: str) -> int:
    """Bytes that removing a file or folder frees; a file with another name elsewhere, or none any more, frees none."""
    if os.path.isdir(path) and not os.path.islink(path):
        return sum(_size_bytes(os.path.join(path, name)) for name in _entries(path))
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return 0
    return facts.st_size if facts.st_nlink == 1 else 0


def _job_ids(root: str) -> List[str]:
    return [name for name in _entries(os.path.join(root, "jobs")) if _JOB.match(name)]


def _live_jobs(root: str) -> List[str]:
    return [job_id for job_id in _job_ids(root) if jobs.status(root, job_id)["state"] in _LIVE]


def wanted(root: str, without: Iterable[str] = ()) -> Set[str]:
    """Digests that a release, a live job or a job younger than a day names.

    Args:
        root: The runner's root.
        without: Folders of releases that count as gone.
    """
    found: Set[str] = set()
    live, gone = set(_live_jobs(root)), set(without)
    for job_id in _job_ids(root):
        folder = storage.job_folder(root, job_id)
        if job_id in live or _age_days(os.path.join(folder, "job.json")) < 1:
            for name in ("job.json", "result.json"):
                found.update(storage.digests_named_in(os.path.join(folder, name)))
    for folder, _, names in os.walk(os.path.join(root, "apps")):
        for name in names:
            if name == MANIFEST and folder not in gone:
                found.update(storage.digests_named_in(os.path.join(folder, name)))
    return found


def _unwanted_objects(root: str, kept: Set[str]) -> Iterable[str]:
    folder = os.path.join(root, "objects")
    for name in _entries(folder):
        path = os.path.join(folder, name)
        stale = not _SHA.match(name) and _age_days(path) > OLD_PART_DAYS
        if stale or _SHA.match(name) and name not in kept:
            yield path


def _old_jobs(root: str) -> Iterable[str]:
    live = set(_live_jobs(root))
    for job_id in _job_ids(root):
        path = storage.job_folder(root, job_id)
        if job_id not in live and _age_days(path) > OLD_JOB_DAYS:
            yield path


def _old_temporaries(root: str) -> Iterable[str]:
    """Files that somebody was about to put in place and did not live to; those of apps are the apps' own to sweep."""
    for folder in (root, *(os.path.join(root, name) for name in ("agent", "log", "trust"))):
        for name in _entries(folder):
            path = os.path.join(folder, name)
            if storage.TEMPORARY.match(name) and _age_days(path) > OLD_TEMPORARY_DAYS:
                yield path


def _old_runners(root: str) -> Iterable[str]:
    """Bundles other than the current one and those that anybody runs from."""
    folder = os.path.join(root, "runner")
    current = os.path.realpath(os.path.join(folder, "current"))
    in_use = _running_commands()
    for name in _entries(folder):
        path = os.path.join(folder, name)
        if _SHA.match(name) and os.path.realpath(path) != current and path.encode() not in in_use:
            yield path


def _running_commands() -> bytes:
    """Command lines of all processes that we may look at, our own included."""
    commands = []
    for pid in _entries("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as stream:
                    commands.append(stream.read())
            except OSError:
                pass
    return b"\0".join(commands)


def collect_garbage(root: str, keep: Iterable[str], tight: bool = False) -> Dict[str, Any]:
    """Remove what nobody refers to (verb ``gc``): objects, jobs of a week ago, older runners, stale partial uploads
    and files that were never put in place.

    Args:
        root: The runner's root.
        keep: Digests that stay in any case.
        tight: Remove releases too that no pointer leads to and no application holds.
    """
    free_before = storage.free_bytes(root)
    removed = sum(_drop_spare_releases(store) for store in _stores(root)) if tight else 0
    kept = wanted(root).union(storage.check_digest(digest) for digest in keep)
    freed = max(0, storage.free_bytes(root) - free_before) if removed else 0
    for path in [*_unwanted_objects(root, kept), *_old_jobs(root), *_old_runners(root), *_old_temporaries(root)]:
        freed += _size_bytes(path)
        _remove(path)
        removed += 1
    return {"removed": removed, "freed_bytes": freed}


def collectable_bytes(root: str, keep: Iterable[str]) -> int:
    """What a tight `collect_garbage` would free of objects and releases; nothing is removed."""
    spare = [store.folder(number) for store in _stores(root) for number in store.spare()]
    kept = wanted(root, spare).union(keep)
    files = [os.path.join(folder, name) for folder in spare for name in _entries(folder)]
    seen: Dict[Tuple[int, int], int] = {}
    freed = 0
    for path in [*files, *_unwanted_objects(root, kept)]:
        try:
            facts = os.lstat(path)
        except FileNotFoundError:
            continue  # an update that is under way was faster
        inode = (facts.st_dev, facts.st_ino)
        seen[inode] = seen.get(inode, 0) + 1
        if seen[inode] == facts.st_nlink:  # its last name goes with the others
            freed += facts.st_size
    return freed


def _stores(root: str) -> List[ReleaseStore]:
    return [ReleaseStore(root, os.path.basename(path)) for path in _apps(root)]


def _drop_spare_releases(store: ReleaseStore) -> int:
    """Discard what no pointer leads to; nothing while the application is being changed."""
    try:
        with store.locked():
            return sum(store.discard(number) for number in store.spare())
    except Refusal:
        return 0


def _remove(path: str) -> None:
    """Take a file or folder away; somebody else may have been faster."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        remove_file(path)


def clean(root: str, force: bool) -> Dict[str, Any]:
    """Take away all that the runner ever put on the device (verb ``clean``).

    Only what is ours by its name or by a mark in it: a root that was set to somebody's home keeps everything else,
    also in folders that are called as ours are.

    Raises:
        Refusal: ``busy`` while a job lives or an application has an active release, unless `force`.
    """
    live = _live_jobs(root)
    apps = [os.path.basename(path) for path in _apps(root) if os.path.lexists(os.path.join(path, "current"))]
    if live and not force:
        raise Refusal(BUSY, "job %s is at work" % live[0], "Wait for it, or cancel it with --force.")
    if apps and not force:
        raise Refusal(BUSY, "%s is active here" % ", ".join(apps), "Give --force to take it away too.")
    for job_id in live:
        jobs.cancel(root, job_id)
    offspring.end_orphans()
    for path in list(_ours(root)):
        _remove(path)
    if force or leases.current(root) is None:
        _remove_lock(root)
    for folder in [os.path.join(root, name) for name in storage.FOLDERS] + [root]:
        try:
            os.rmdir(folder)
        except OSError:
            pass  # something of somebody else's is in there, or it is not there
    return {"removed": not os.path.exists(root)}


def _ours(root: str) -> Iterable[str]:
    """Everything below the root that the runner made."""
    for folder, pattern in _NAMED.items():
        for name in _entries(os.path.join(root, folder)):
            if pattern.match(name):
                yield os.path.join(root, folder, name)
    for path in _apps(root) + _environments(root):
        yield path


def _apps(root: str) -> List[str]:
    """Folders of applications, told by the lock that the first activation leaves in them."""
    paths = [os.path.join(root, "apps", name) for name in _entries(os.path.join(root, "apps"))]
    return [path for path in paths if os.path.isfile(os.path.join(path, LOCK))]


def _environments(root: str) -> List[str]:
    """Folders of environments, told by their mark, and links to the current one."""
    paths = [os.path.join(root, "env", name) for name in _entries(os.path.join(root, "env"))]
    return [path for path in paths if os.path.lexists(os.path.join(path, environment.MARK)) or _is_pointer(path)]


def _is_pointer(path: str) -> bool:
    """Whether it is `env/current`, or the link that was about to become it."""
    name = os.path.basename(path)
    return os.path.islink(path) and (name == "current" or name.startswith(".tmp-current-"))


def _remove_lock(root: str) -> None:
    """Take the board's lock and lease away, if nobody has the lock and they are ours."""
    lock = FileLock(board_lock_path(root))
    try:
        if lock.acquire():
            if os.path.exists(leases.lease_path(root)):
                os.unlink(leases.lease_path(root))
            lock.release(remove=True)
    except OSError:
        lock.release()
