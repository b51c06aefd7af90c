"""The folder ``<root>/trust``: roots, the metadata below them, nonces and the last trusted time; every file atomic.

``<n>.root.json``: each root that was followed; the highest that is whole counts. ``metadata.json``: the files below it,
in one, so that they change all at once. ``state.json``: nonces, time, and why the board counts as insecure.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from edgeopt_runner import faults, storage
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import chain, freshness, metadata
from edgeopt_runner.trust.chain import Trusted
from edgeopt_runner.trust.metadata import SNAPSHOT, TARGETS, TIMESTAMP, Metadata

FOLDER = "trust"
NAMES = re.compile(r"([0-9]+\.root|metadata|state)\.json(\.[0-9]+\.tmp)?\Z|lock\Z")
"""Files that are ours in the folder."""

DOOR_VARIABLE = "EDGEOPT_DOOR"
"""Set where the account has no shell, only this runner: there nobody may take the root of trust away from afar."""

_ROOT_NAME = re.compile(r"([1-9][0-9]{0,18})\.root\.json\Z")
_MOST_NONCES = 4
_MOST_REASONS = 16


class Memory(NamedTuple):
    """What the board remembers beside the metadata.

    Attributes:
        nonces: Those that it waits for an answer to, the newest last.
        last_trusted_time: Latest signed time that it believed, in seconds since the epoch; 0: none yet.
        insecure: Why it counts as insecure: what was installed unsigned, and when.
    """

    nonces: Tuple[str, ...] = ()
    last_trusted_time: int = 0
    insecure: Tuple[str, ...] = ()


def folder(root: str) -> str:
    """Where all of it lies."""
    return os.path.join(root, FOLDER)


def _path(root: str, name: str) -> str:
    return os.path.join(folder(root), name)


@contextlib.contextmanager
def locked(root: str) -> Iterator[None]:
    """Hold the trust of this board; waits for whoever has it. Makes the folder."""
    os.makedirs(folder(root), mode=0o700, exist_ok=True)
    descriptor = os.open(_path(root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def memory(root: str) -> Memory:
    """What the board remembers; a file that is damaged is one that is not there."""
    found = storage.read_json(_path(root, "state.json"))
    nonces, when, insecure = found.get("nonces"), found.get("last_trusted_time"), found.get("insecure")
    return Memory(_texts(nonces), when if isinstance(when, int) and when > 0 else 0, _texts(insecure))


def _texts(value: Any) -> Tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def remember(root: str, new: Memory) -> None:
    """Replace what the board remembers."""
    storage.write_json(_path(root, "state.json"), new._asdict())


def fresh_nonce(root: str) -> str:
    """A new nonce, which the board now waits for an answer to, beside the last few."""
    nonce = os.urandom(freshness.NONCE_BYTES).hex()
    known = memory(root)
    remember(root, known._replace(nonces=(known.nonces + (nonce,))[-_MOST_NONCES:]))
    return nonce


def mark_insecure(root: str, why: str) -> None:
    """Remember that something unsigned was installed; the newest reasons are kept."""
    with locked(root):
        known = memory(root)
        line = "%s: %s" % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), why[:200])
        remember(root, known._replace(insecure=(known.insecure + (line,))[-_MOST_REASONS:]))


def _root_versions(root: str) -> List[int]:
    """Versions of the roots that are there, the highest first."""
    try:
        matches = [_ROOT_NAME.match(name) for name in os.listdir(folder(root))]
    except OSError:
        return []
    return sorted((int(match.group(1)) for match in matches if match), reverse=True)


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(metadata.LIMIT_BYTES[TARGETS])
    except OSError:
        return b""


def roots(root: str) -> Iterator[Metadata]:
    """The roots that are whole, the highest first."""
    for version in _root_versions(root):
        with contextlib.suppress(Refusal):
            found = chain.first_root(_bytes(_path(root, "%d.root.json" % version)))
            if found.version == version:
                yield found


def load(root: str) -> Optional[Trusted]:
    """What the board has, its signatures below the root not looked at again; ``None``: it is not enrolled."""
    newest = next(roots(root), None)
    if newest is None:
        return None
    texts = storage.read_json(_path(root, "metadata.json"))
    named = texts.get("delegated")
    pairs = [(key.split("/", 1), text) for key, text in (named if isinstance(named, dict) else {}).items()]
    files = [((key[0], key[-1]), _parsed(text, TARGETS)) for key, text in pairs]
    delegated = {key: file for key, file in files if file is not None}
    top = [_parsed(texts.get(name), name) for name in (TIMESTAMP, SNAPSHOT, TARGETS)]
    return Trusted(newest, top[0], top[1], top[2], delegated)


def _parsed(text: Any, role: str) -> Optional[Metadata]:
    try:
        return metadata.parse(text.encode("utf-8"), role) if isinstance(text, str) else None
    except (Refusal, ValueError):
        return None


def keep_roots(root: str, followed: Iterable[Metadata]) -> None:
    """Keep roots, in their order: each stands for itself, whatever becomes of what is below."""
    for new in followed:
        faults.point("trust.root", match=str(new.version))
        storage.write_atomically(_path(root, "%d.root.json" % new.version), new.text)


def keep(root: str, trusted: Trusted, remembered: Memory) -> None:
    """Keep what was verified: the memory first, so that no nonce serves twice, then all files at once."""
    faults.point("trust.memory", match=str(trusted.root.version))
    remember(root, remembered)
    top = ((TIMESTAMP, trusted.timestamp), (SNAPSHOT, trusted.snapshot), (TARGETS, trusted.targets))
    texts: Dict[str, Any] = {name: file.text.decode("utf-8") for name, file in top if file is not None}
    texts["delegated"] = {"/".join(key): file.text.decode("utf-8") for key, file in trusted.delegated.items()}
    faults.point("trust.metadata", match=str(trusted.root.version))
    storage.write_atomically(_path(root, "metadata.json"), json.dumps(texts).encode("utf-8"))


def replace_root(root: str, new: Metadata) -> None:
    """Forget all that was trusted and pin another root."""
    remember(root, Memory(insecure=memory(root).insecure))
    names = ["metadata.json"] + ["%d.root.json" % version for version in reversed(_root_versions(root))]
    for name in names:
        if os.path.exists(_path(root, name)):
            os.unlink(_path(root, name))
    storage.sync(folder(root))
    keep_roots(root, [new])
