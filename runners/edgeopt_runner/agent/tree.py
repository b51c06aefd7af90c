"""A release tree on a store: small documents whole, files by digest with resume; see `edgeopt publish`."""

import hashlib
import os
from typing import Any, Dict, NamedTuple

from edgeopt_runner import faults, storage
from edgeopt_runner.agent import NETWORK, STORE_REFUSED
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.web import Reply, Web, shown
from edgeopt_runner.locks import FileLock
from edgeopt_runner.protocol import BUSY, DIGEST_MISMATCH, DISK_FULL
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.transfer import rest_bytes

BLOCK_BYTES = 1 << 18
MARGIN_BYTES = 16 << 20
ABSENT = (403, 404, 410)
"""A bucket whose list is not public answers 403 for what it does not have."""

_LATER = (408, 421, 425, 429)

Small = NamedTuple("Small", [("status", int), ("body", bytes), ("etag", str)])
"""A small document: status (200, 304, or one of `ABSENT`), bytes and entity tag."""


class Tree:
    """A release tree at an address.

    Args:
        url: Folder that holds ``metadata/``, ``targets/`` and ``blobs/``.
        web: Makes the requests.
        patience: When to ask again.
    """

    def __init__(self, url: str, web: Web, patience: Patience) -> None:
        self.url = url.rstrip("/")
        self._web, self._patience = web, patience
        self.received_bytes = 0

    def small(self, path: str, limit: int, etag: str = "") -> Small:
        """A document of at most `limit` bytes; with an `etag` only if it is another than that.

        Raises:
            Refusal: ``network`` after all tries; ``store_refused``.
        """
        return self._patience.persist(lambda: self._small(path, limit, etag))

    def _small(self, path: str, limit: int, etag: str) -> Small:
        with self._open(path, {"If-None-Match": etag} if etag else {}) as reply:
            if reply.status == 304 and etag:
                return Small(304, b"", etag)
            if reply.status in ABSENT:
                return Small(reply.status, b"", "")
            _require(reply, (200,))
            body = reply.read_all(limit)
            self.received_bytes += len(body)
            return Small(200, body, reply.headers.get("etag", "")[:200])

    def _open(self, path: str, headers: Dict[str, str]) -> Reply:
        return self._web.open("%s/%s" % (self.url, path), headers)

    def bring(self, root: str, path: str, digest: str, size: int) -> str:
        """Have an object in the runner's store; what was there before the link broke is not sent again.

        Args:
            root: The runner's root.
            path: Where it lies in the tree.
            digest: SHA-256 that it must have.
            size: Bytes that it must have.

        Returns:
            Its path.

        Raises:
            Refusal: ``network`` after all tries, ``store_refused``, ``digest_mismatch`` (after one fresh start),
                ``disk_full``, ``busy`` (another process receives it).
        """
        final = storage.object_path(root, digest)
        if os.path.isfile(final):
            return final
        _check_space(root, rest_bytes(storage.part_path(root, digest), size))
        lock = FileLock(final + ".lock")
        if not lock.acquire():
            raise Refusal(BUSY, "another process is receiving %s" % digest, "Try again later.")
        try:
            download = _Download(self, path, final, size)
            self._patience.persist(download.go_on)
        finally:
            lock.release(remove=True)
        return final


class _Download:
    """One file on its way, over as many connections as it takes, and from the start again at most once."""

    def __init__(self, tree: Tree, path: str, final: str, size: int) -> None:
        self._tree, self._path, self._final, self._size = tree, path, final, size
        self._part = final + ".part"
        self._restarts = 0

    def go_on(self) -> None:
        """Fetch what is missing, verify, and give the file its name. Raises Refusal."""
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "r+b") as stream:
            digest = self._held(stream)
            if stream.tell() < self._size:
                digest = self._fetch(stream, digest)
            if digest.hexdigest() != os.path.basename(self._final):
                self._start_over(stream, "has another digest than the signed one", DIGEST_MISMATCH)
            os.fsync(stream.fileno())
        faults.point("transfer.before_rename", match=os.path.basename(self._final))
        os.replace(self._part, self._final)
        storage.sync(os.path.dirname(self._final))

    def _held(self, stream: Any) -> Any:
        """Hash what is here already and stand behind it."""
        if os.fstat(stream.fileno()).st_size > self._size:
            stream.truncate(0)
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(BLOCK_BYTES), b""):
            digest.update(block)
        return digest

    def _start_over(self, stream: Any, why: str, code: str) -> None:
        """Throw away what is here; once for another try, the second time for good."""
        stream.truncate(0)
        self._restarts += 1
        message = "%s of the store %s" % (self._path, why)
        raise Refusal(
            NETWORK if self._restarts == 1 else code, message, "Repair the store: edgeopt publish --to URL --verify."
        )

    def _fetch(self, stream: Any, digest: Any) -> Any:
        offset = stream.tell()
        with self._tree._open(self._path, {"Range": "bytes=%d-" % offset} if offset else {}) as reply:
            if reply.status == 416:
                self._start_over(stream, "is shorter than the signed size", STORE_REFUSED)
            _require(reply, (200, 206))
            if reply.status == 206 and not _continues(reply, offset):
                self._start_over(stream, "was sent from another place than asked", STORE_REFUSED)
            if reply.status == 200 and offset:
                # the whole file in answer to a range: take it as the one fresh start
                self._restarts += 1
                if self._restarts > 1:
                    raise Refusal(STORE_REFUSED, "%s does not send ranges and breaks off" % shown(reply.url))
                stream.seek(0)
                stream.truncate()
                digest = hashlib.sha256()
            self._copy(reply, stream, digest)
        return digest

    def _copy(self, reply: Reply, stream: Any, digest: Any) -> None:
        while True:
            block = reply.read_some(BLOCK_BYTES)
            if not block:
                break
            self._tree.received_bytes += len(block)
            if stream.tell() + len(block) > self._size:
                self._start_over(stream, "is longer than the signed size", DIGEST_MISMATCH)
            stream.write(block)
            digest.update(block)
            faults.point("pull.block", match=os.path.basename(self._final))
        stream.flush()
        if stream.tell() < self._size:
            raise Refusal(NETWORK, "%s ended after %d of %d bytes" % (shown(reply.url), stream.tell(), self._size))


def _continues(reply: Reply, offset: int) -> bool:
    return reply.headers.get("content-range", "").startswith("bytes %d-" % offset)


def _require(reply: Reply, statuses: Any) -> None:
    """Raises Refusal: ``network`` where another try may help, else ``store_refused``."""
    if reply.status in statuses:
        return
    message = "%s answered %d" % (shown(reply.url), reply.status)
    if reply.status >= 500 or reply.status in _LATER:
        raise Refusal(NETWORK, message)
    raise Refusal(STORE_REFUSED, message, "Is the tree published there? edgeopt publish --to.")


def _check_space(root: str, size: int) -> None:
    free = storage.free_bytes(root)
    if free < size + MARGIN_BYTES:
        raise Refusal(DISK_FULL, "%d bytes are free, and %d are needed" % (free, size + MARGIN_BYTES), "Free some.")
