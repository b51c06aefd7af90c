"""Mender's update module protocol (v3): each state of a deployment, over the same verification and transaction.

The payload's files are those of a release in our tree, by their own names: signed metadata, the manifest, and blobs
that are called by their digests. ``Download`` streams blobs where the transaction wants them, under their digest and
into effect for nobody; ``ArtifactInstall`` is the whole transaction with its own way back; ``ArtifactCommit`` looks
whether that release runs; ``ArtifactRollback`` goes back where something else of the deployment failed.
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import time
import uuid
from typing import Any, BinaryIO, Callable, Dict, Iterator, List

from edgeopt_runner import releases, storage
from edgeopt_runner.agent import STORE_REFUSED, orders
from edgeopt_runner.agent import settings as agent_settings
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.memory import Memory
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.poll import Poll, assigned
from edgeopt_runner.agent.tree import MARGIN_BYTES, Tree
from edgeopt_runner.agent.web import Reply, Web
from edgeopt_runner.links import sha256_of
from edgeopt_runner.locks import FileLock
from edgeopt_runner.protocol import BUSY, DIGEST_MISMATCH, DISK_FULL
from edgeopt_runner.refusals import Refusal, refusal_of

SMALL_BYTES = 5 << 20
"""Longest metadata file or manifest."""

PATIENCE_SECONDS = 600.0
"""For a poll that is under way."""

_LOOK_SECONDS = 0.5
_FOLDER = "mender"
_STATE = "state.json"
_BLOCK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}\Z")


def module(root: str, state: str, files: str) -> int:
    """One call of the module.

    Args:
        root: The runner's root.
        state: What Mender asks for; an unknown one is none of our business, says the protocol.
        files: Folder of Mender's file API.

    Returns:
        0, or 1 after a line on stderr that says why.
    """
    answers = {"SupportsRollback": "Yes", "NeedsArtifactReboot": "No"}
    if state in answers:
        sys.stdout.write(answers[state] + "\n")
        return 0
    try:
        act = _STATES.get(state)
        if act is not None:
            act(root, files)
    except Exception as error:  # the rim: Mender takes a status and a line
        refusal = refusal_of(error)
        sys.stderr.write("edgeopt: %s (%s) %s\n" % (refusal.message, refusal.code, refusal.remedy))
        return 1
    return 0


def _folder(root: str) -> str:
    return os.path.join(agent_settings.folder(root), _FOLDER)


def _download(root: str, files: str) -> None:
    """Take the streams in their order, each once."""
    _cleanup(root, files)
    storage.prepare(root)
    with open(os.path.join(files, "streams-list")) as listing:
        names = [line.strip() for line in listing if line.strip()]
    for name in names:
        with open(os.path.join(files, name), "rb") as stream:
            _keep(root, os.path.basename(name), stream)


def _keep(root: str, name: str, stream: BinaryIO) -> None:
    """Put one file of the payload where it belongs. Raises Refusal."""
    if not _NAME.match(name):
        raise Refusal(STORE_REFUSED, "the payload has a file called %.80r" % name, "Make it of a published tree.")
    if _DIGEST.match(name):
        _keep_blob(root, name, stream)
        return
    data = stream.read(SMALL_BYTES + 1)
    if len(data) > SMALL_BYTES:
        raise Refusal(STORE_REFUSED, "%s has more than %d bytes" % (name, SMALL_BYTES))
    os.makedirs(_folder(root), mode=0o700, exist_ok=True)
    storage.write_atomically(os.path.join(_folder(root), name), data)


def _keep_blob(root: str, digest: str, stream: BinaryIO) -> None:
    """A blob among the objects, if it is what its name says; one that is there is read over."""
    final = storage.object_path(root, digest)
    found, part = hashlib.sha256(), "%s.%d.part" % (final, os.getpid())
    try:
        with open(part, "wb") as target:
            for block in iter(lambda: stream.read(_BLOCK_BYTES), b""):
                if storage.free_bytes(root) < len(block) + MARGIN_BYTES:
                    raise Refusal(DISK_FULL, "there is no room for %s" % digest, "Free some space.")
                target.write(block)
                found.update(block)
            target.flush()
            os.fsync(target.fileno())
        if found.hexdigest() != digest:
            raise Refusal(DIGEST_MISMATCH, "what came as %s has another digest" % digest, "Make the artifact again.")
        os.replace(part, final)
        storage.sync(os.path.dirname(final))
    finally:
        if os.path.exists(part):
            os.unlink(part)


class _Payload(Tree):
    """The files of a payload as a tree."""

    def __init__(self, root: str, patience: Patience) -> None:
        super(_Payload, self).__init__("file://" + _folder(root), Web(), patience)
        names = [name for name in os.listdir(_folder(root)) if name != _STATE]
        self.digests = {sha256_of(os.path.join(_folder(root), name)): name for name in names}

    def _open(self, path: str, headers: Dict[str, str]) -> Reply:
        name = path.rpartition("/")[2]
        if not path.startswith("metadata/"):
            name = self.digests.get(name.partition(".")[0], name)
        return self._web.open("%s/%s" % (self.url, name), headers)


@contextlib.contextmanager
def _alone(root: str) -> Iterator[None]:
    """Keep the board's own agent from polling meanwhile: it remembers in the same file. Raises Refusal ``busy``."""
    lock, until = FileLock(agent_settings.lock_path(root)), time.monotonic() + PATIENCE_SECONDS
    while not lock.acquire():
        if time.monotonic() > until:
            message = "the board's own agent (process %s) is at work" % lock.holder()
            raise Refusal(BUSY, message, "Deploy again when it has ended.")
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _install(root: str, files: str) -> None:
    """The whole transaction. Raises Refusal where the release is not committed; what ran before runs then."""
    _take_files(root, os.path.join(files, "files"))
    with _alone(root):
        _installed(root)


def _installed(root: str) -> None:
    settings = agent_settings.load(root)
    board, memory = Board(root), Memory(root)
    payload = _Payload(root, Patience(settings.device_id, attempts=1))
    board.refresh(payload, memory)
    app, release = board.one_release(list(payload.digests))
    before = _active(root, app)
    rollout = "mender-%s" % uuid.uuid4().hex[:16]
    wanted = board.target("releases/%s/%s.json" % (app, release))
    assert wanted is not None
    state = {"app": app, "manifest": wanted["sha256"], "before": before.get("manifest", "")}
    storage.write_json(os.path.join(_folder(root), _STATE), state)
    verdict = Poll(board, settings, payload, memory).take(assigned(app, release, rollout))
    if verdict.outcome not in ("committed", "nothing"):
        raise Refusal(verdict.code or verdict.outcome, "%s: %s" % (verdict.outcome, verdict.reason))


def _take_files(root: str, folder: str) -> None:
    """The payload where Mender stored it itself."""
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        with open(os.path.join(folder, name), "rb") as stream:
            _keep(root, name, stream)


def _active(root: str, app: str) -> Dict[str, Any]:
    rows: List[Dict[str, Any]] = releases.report(root, True)
    return next((row for row in rows if row["app"] == app), {})


def _commit(root: str, _files: str) -> None:
    """Say no where the release that was installed does not run, whole."""
    state = storage.read_json(os.path.join(_folder(root), _STATE))
    row = _active(root, str(state.get("app", "")))
    if not state or row.get("manifest") != state.get("manifest") or not row.get("verified"):
        raise Refusal(STORE_REFUSED, "the release of this deployment is not what runs", "Deploy it again.")


def _rollback(root: str, _files: str) -> None:
    """Go back to what ran before the deployment; nothing is to be done where that runs still."""
    state = storage.read_json(os.path.join(_folder(root), _STATE))
    app = str(state.get("app", ""))
    if not app or _active(root, app).get("manifest") != state.get("manifest"):
        return
    if state["before"] == state["manifest"]:
        return
    if not state["before"]:
        raise Refusal(STORE_REFUSED, "%s had no release before this one" % app, "Deploy another.")
    board = Board(root)
    order = {"app": app, "to_manifest": state["before"], "fence": board.fence(app)}
    job = dict(orders.update_job(dict(order, rollout=uuid.uuid4().hex, manifest=""), "mender", 1), kind="return")
    update = orders.carry_out(root, job)
    if update["outcome"] not in ("committed", "nothing"):
        raise Refusal(str(update.get("code")) or "error", "going back failed: %s" % update.get("reason"))


def _cleanup(root: str, _files: str) -> None:
    shutil.rmtree(_folder(root), ignore_errors=True)


_STATES: Dict[str, Callable[[str, str], None]] = {
    "Download": _download,
    "ArtifactInstall": _install,
    "ArtifactCommit": _commit,
    "ArtifactRollback": _rollback,
    "Cleanup": _cleanup,
}
