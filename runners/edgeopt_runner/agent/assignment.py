"""A hawkBit server in the place of rollout files: its assignments through the same verification and transaction.

What hawkBit assigns is a distribution set whose artifacts are files of our tree: the release's manifest, the signed
metadata, and models. hawkBit knows hashes only; here the signatures count. Files that the assignment lacks come from
the tree of ``agent.json``. An action is closed with success only once the release is committed on this board, so that
hawkBit never counts as updated what does not run (hawkBit issue 3185).
"""

import io
from typing import Any, Dict, List

from edgeopt_runner import jobs
from edgeopt_runner.agent import NETWORK, orders
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.hawkbit import Action, Deployment, Server
from edgeopt_runner.agent.memory import Memory
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.poll import AGAIN, Poll, Verdict, assigned
from edgeopt_runner.agent.settings import Settings
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.agent.web import Reply, Web, split
from edgeopt_runner.refusals import refusal_of

_SUCCESS = ("committed", "nothing")
_FAILURE = ("rolled_back", "aborted", "safe_stop", "drift")


class AssignedTree(Tree):
    """The files of an assignment; what it lacks comes from the tree of the settings.

    Args:
        deployment: The assignment.
        settings: Where the rest is, and the certificates to believe.
        server: Whose token goes to the server's own host, and to no other.
        patience: When to ask again.
    """

    def __init__(self, deployment: Deployment, settings: Settings, server: Server, patience: Patience) -> None:
        super(AssignedTree, self).__init__(settings.url, Web(settings.ca, known=server.known), patience)
        self._names = {artifact.name: artifact for artifact in deployment.artifacts}
        self._digests = {artifact.sha256: artifact for artifact in deployment.artifacts}
        self._server, self._host = server, split(settings.hawkbit["url"]).netloc

    def _open(self, path: str, headers: Dict[str, str]) -> Reply:
        name = path.rpartition("/")[2]
        digest = name.partition(".")[0]
        found = self._names.get(name) if path.startswith("metadata/") else self._digests.get(digest)
        found = None if path.startswith("patches/") else found  # named after the file, and no file of an assignment
        if found is None and not self.url:
            return Reply(path, 404, {}, io.BytesIO())
        if found is None:
            return super(AssignedTree, self)._open(path, headers)
        web = self._server.web if split(found.url).netloc == self._host else self._web
        return web.open(found.url, headers)


class Assignments:
    """One look at a hawkBit server.

    Args:
        board: What this board trusts and runs.
        settings: Who it is, and where the server is.
        memory: What it remembers.
        patience: When to ask again.
    """

    def __init__(self, board: Board, settings: Settings, memory: Memory, patience: Patience) -> None:
        self._board, self._settings, self._memory, self._patience = board, settings, memory, patience
        self._server = Server(settings, patience, board.now())
        self.received_bytes = 0

    def run(self) -> List[Verdict]:
        """Look, do what is asked, and tell the server how it went.

        Raises:
            Refusal: The server cannot be reached or used.
        """
        self._memory.polls += 1
        found = []
        for action in self._server.look():
            if action.kind == "cancelAction":
                self._cancel(action)
            else:
                found.append(self._deploy(action))
        return found

    def _cancel(self, action: Action) -> None:
        """Agree where nothing of it is at work or done; an update that has begun is not cut off halfway."""
        rollout = _rollout(self._server.stopped(action))
        known = [record for record in self._memory.apps().values() if record.get("rollout") == rollout]
        for record in known:
            if record.get("outcome") in _SUCCESS:
                self._server.feedback(action, "rejected", "failure", "the release is committed already")
                return
            if self._at_work(record):
                self._server.feedback(action, "rejected", "none", "the update is under way")
                return
        self._server.feedback(action, "closed", "success", "nothing was begun that is not undone")

    def _at_work(self, record: Dict[str, Any]) -> bool:
        job = orders.update_job(dict(record, app=""), self._settings.device_id, record.get("attempt", 1))
        return jobs.status(self._board.root, job["job_id"])["state"] in ("queued", "running")

    def _deploy(self, action: Action) -> Verdict:
        """Carry out an assignment; what is wrong with it is told to the server."""
        verdict = Verdict("", "", "failed", "", "")
        try:
            verdict = self._release(self._server.deployment(action))
        except Exception as error:  # the rim: an action that nobody answers stays open for ever
            refusal = refusal_of(error)
            verdict = verdict._replace(code=refusal.code, reason=refusal.message)
        self._tell(action, verdict)
        return verdict

    def _release(self, deployment: Deployment) -> Verdict:
        tree = AssignedTree(deployment, self._settings, self._server, self._patience)
        self._board.refresh(tree, self._memory)
        app, release = self._board.one_release([artifact.sha256 for artifact in deployment.artifacts])
        offer = assigned(app, release, _rollout(deployment.action.number))
        poll = Poll(self._board, self._settings, tree, self._memory)
        if not deployment.download:
            return Verdict(app, release, "waiting", "", "the server does not want it fetched yet")
        hold = "" if deployment.update else "the server does not want it installed yet; the files are here"
        try:
            return poll.take(offer, lambda: hold)
        finally:
            self.received_bytes += tree.received_bytes

    def _tell(self, action: Action, verdict: Verdict) -> None:
        words = " ".join(filter(None, (verdict.outcome, verdict.code, verdict.reason)))
        if verdict.outcome in _SUCCESS:
            self._server.feedback(action, "closed", "success", words)
        elif self._memory.apps().get(verdict.app, {}).get("outcome") == AGAIN:
            self._server.feedback(action, "proceeding", "none", words)
        elif verdict.outcome in _FAILURE or (verdict.outcome == "failed" and verdict.code != NETWORK):
            self._server.feedback(action, "closed", "failure", words)
        elif verdict.outcome in ("skipped", "refused"):
            self._server.feedback(action, "rejected", "none", words)
        else:
            self._server.feedback(action, "proceeding", "none", words)


def _rollout(number: str) -> str:
    return "hawkbit-%s" % number
