"""Where things lie under the runner's root, and how files there are replaced so that a power cut cannot spoil them.

``runner/<sha256>/``, ``objects/<sha256>`` (and ``.part``, ``.lock``), ``jobs/<id>/``, ``apps/<name>/``, ``env/<key>/``,
``trust/``.
Names in requests are matched against patterns here; no path ever comes from a request.
"""

import errno
import json
import os
import re
from typing import Any, Dict, Iterable, List

from edgeopt_runner.protocol import BAD_REQUEST
from edgeopt_runner.refusals import Refusal, refusal_of

FOLDERS = ("runner", "objects", "jobs", "apps", "env", "trust", "agent", "log")

TEMPORARY = re.compile(r".+\.[0-9]+\.tmp\Z")
"""Names of files that `write_atomically` was about to give theirs."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_IDENTIFIER = re.compile(r"[0-9a-f]{32}\Z")
_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_DIGESTS_IN_TEXT = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def expand(root: str) -> str:
    """The absolute root, ``~`` resolved."""
    return os.path.abspath(os.path.expanduser(root))


def prepare(root: str) -> None:
    """Make the root and its folders.

    Raises:
        Refusal: ``read_only`` or ``disk_full``.
    """
    for name in FOLDERS:
        try:
            make_folders(os.path.join(root, name))
        except OSError as error:
            raise refusal_of(error)


def _checked(pattern: Any, value: Any, what: str) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise Refusal(BAD_REQUEST, "%s is %.80r" % (what, value), "Send %s." % pattern.pattern.replace(r"\Z", ""))
    return value


def check_digest(value: Any, what: str = "a digest") -> str:
    """The value, if it is 64 hex digits. Raises Refusal ``bad_request``."""
    return _checked(_DIGEST, value, what)


def check_identifier(value: Any, what: str = "job_id") -> str:
    """The value, if it is 32 hex digits. Raises Refusal ``bad_request``."""
    return _checked(_IDENTIFIER, value, what)


def check_app(value: Any) -> str:
    """The value, if it is an app's name. Raises Refusal ``bad_request``."""
    return _checked(_APP, value, "app")


def object_path(root: str, digest: str) -> str:
    """The verified object of that digest."""
    return os.path.join(root, "objects", check_digest(digest))


def part_path(root: str, digest: str) -> str:
    """What has arrived so far of an object."""
    return object_path(root, digest) + ".part"


def job_folder(root: str, job_id: str) -> str:
    """The folder of a job."""
    return os.path.join(root, "jobs", check_identifier(job_id))


def app_folder(root: str, app: str) -> str:
    """The folder of an app."""
    return os.path.join(root, "apps", check_app(app))


def provisioned_python(root: str) -> str:
    """The interpreter of the environment that the host provisioned; there may be none."""
    return os.path.join(root, "env", "current", "bin", "python")


def missing_objects(root: str, digests: Iterable[str]) -> List[str]:
    """Those of the digests that are not in `objects/`."""
    return [digest for digest in digests if not os.path.isfile(object_path(root, digest))]


def free_bytes(path: str) -> int:
    """Space that this user may still fill on the path's file system."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize


def sync(path: str) -> None:
    """Make the bytes of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(path: str) -> None:
    """Make a folder and those above it that are missing; a power cut does not take them away again with what is in.

    Raises:
        NotADirectoryError: A file is in its place.
    """
    if os.path.isdir(path):
        return
    if os.path.lexists(path) and not os.path.isdir(path):  # asked again: another process may have made it just now
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    above = os.path.dirname(path)
    make_folders(above)
    os.makedirs(path, exist_ok=True)
    sync(above)


def write_atomically(path: str, data: bytes, durable: bool = True) -> None:
    """Replace a file: a reader sees the old or the new bytes; with `durable`, also after a power cut."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if durable:
        sync(os.path.dirname(path))


def write_json(path: str, document: Any, durable: bool = True) -> None:
    """Replace a JSON file. Raises ValueError for NaN."""
    write_atomically(path, json.dumps(document, allow_nan=False).encode("utf-8"), durable)


def read_json(path: str) -> Dict[str, Any]:
    """A JSON object from a file; empty when the file is absent, cut or something else."""
    try:
        with open(path, "rb") as stream:
            document = json.loads(stream.read().decode("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def digests_named_in(path: str) -> List[str]:
    """Every SHA-256 that a small text file mentions; none when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return [match.decode("ascii") for match in _DIGESTS_IN_TEXT.findall(stream.read())]
    except OSError:
        return []
