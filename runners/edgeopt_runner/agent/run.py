"""Entry of ``pull``: one poll, or polls for ever; at most one agent a root; reports what became of it."""

import json
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner.agent import NETWORK, enrolment, reports
from edgeopt_runner.agent import settings as agent_settings
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.memory import Memory
from edgeopt_runner.agent.patience import Patience, spread
from edgeopt_runner.agent.poll import Poll, Verdict
from edgeopt_runner.agent.settings import Settings
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.agent.web import Web
from edgeopt_runner.locks import FileLock
from edgeopt_runner.protocol import BAD_REQUEST, BUSY, NOT_ENROLLED
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.results import one_line

HEARTBEAT_POLLS = 48
"""A report is sent after so many polls even where nothing happened."""

EXIT_DONE, EXIT_FAILED, EXIT_REFUSED = 0, 4, 2
_CHANGED = ("committed", "rolled_back", "aborted")
_GOOD = ("committed", "nothing", "left_out", "waiting", "paused", "skipped", "drift")


def pull(root: str, every_seconds: float = 0.0) -> int:
    """Poll once, or every so often until the process is ended.

    Args:
        root: The runner's root.
        every_seconds: Between polls, give or take a tenth; 0: one poll.

    Returns:
        0 where all offers are as they should be, 4 where an update failed or the store could not be used, 2 where the
        board is not enrolled or its settings cannot be used. Each line printed is a JSON object.
    """
    count = 0
    while True:
        code = _poll_once(root)
        if not every_seconds:
            return code
        count += 1
        time.sleep(every_seconds * (0.9 + 0.2 * spread(_name(root), count)))


def _name(root: str) -> str:
    """The board's name; empty while it has none."""
    try:
        return agent_settings.load(root).device_id
    except Refusal:
        return ""


def _poll_once(root: str) -> int:
    """One poll under the lock; what goes wrong is said on stdout."""
    lock = FileLock(agent_settings.lock_path(root))
    try:
        settings = agent_settings.load(root)
        if not lock.acquire():
            _say(refused=BUSY, reason="another agent (process %s) is at work here" % lock.holder())
            return EXIT_DONE
        return Agent(root, settings).poll()
    except Exception as error:  # the rim: the next poll may find it mended
        refusal = refusal_of(error)
        _say(refused=refusal.code, reason=refusal.message, remedy=refusal.remedy)
        return EXIT_REFUSED if refusal.code in (BAD_REQUEST, NOT_ENROLLED) else EXIT_FAILED
    finally:
        lock.release()


def _say(**document: Any) -> None:
    clean = {name: one_line(value) if isinstance(value, str) else value for name, value in document.items()}
    sys.stdout.write(json.dumps(clean, sort_keys=True) + "\n")
    sys.stdout.flush()


class Agent:
    """One poll with all that belongs to it.

    Args:
        root: The runner's root.
        settings: Of this board.
        sleep: Waits between tries.
    """

    def __init__(self, root: str, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._root, self._settings = root, settings
        self._board, self._memory = Board(root), Memory(root)
        self._patience = Patience(settings.device_id, settings.attempts, settings.first_seconds, sleep)
        self.tree = Tree(settings.url, self._web(), self._patience)

    def _web(self) -> Web:
        return Web(self._settings.ca, known=self._board.now())

    def poll(self) -> int:
        """Poll, report, and say what became of it; returns the exit code. Raises Refusal."""
        refused: Optional[Refusal] = None
        verdicts: List[Verdict] = []
        try:
            verdicts = self._offers()
        except Refusal as error:
            refused = error
        self._memory.save()
        outcomes = {verdict.outcome for verdict in verdicts}
        if outcomes & set(_CHANGED) and "waiting" not in outcomes:  # what waits has its files here
            self._board.collect()
        for verdict in verdicts:
            _say(**verdict._asdict())
        self._report(refused)
        if refused is not None:
            raise refused
        if enrolment.moved(self._root):
            _say(moved=True, reason=enrolment.MOVED)
        _say(polled=True, received_bytes=self.tree.received_bytes)
        return EXIT_DONE if all(verdict.outcome in _GOOD for verdict in verdicts) else EXIT_FAILED

    def _offers(self) -> List[Verdict]:
        if self._settings.hawkbit:
            from edgeopt_runner.agent.assignment import Assignments

            return Assignments(self._board, self._settings, self._memory, self._patience).run()
        if not self._settings.url:
            raise Refusal(BAD_REQUEST, "this board has no address to pull from", "edgeopt device enrol NAME --url URL.")
        return Poll(self._board, self._settings, self.tree, self._memory).run()

    def _report(self, refused: Optional[Refusal]) -> None:
        """Send a report where there is something to tell, or nothing was told for long; it never fails a poll."""
        if not self._settings.report_url:
            return
        trouble = refused.code if refused is not None and refused.code != NETWORK else ""
        told = trouble or "moved" * enrolment.moved(self._root)
        if not self._memory.unreported(told) and self._memory.polls % HEARTBEAT_POLLS != 1:
            return
        try:
            # by the time, or a board whose memory was lost would for long send what is older than its last report
            number = max(self._memory.reports + 1, int(self._board.plausible_now()))
            body = reports.report(self._root, self._settings, number, self._facts(trouble))
            reports.send(self._web(), self._patience, reports.address(self._settings, number), body)
        except Exception as error:  # the rim: a report is not worth an update
            _say(report="not sent", reason=refusal_of(error).message)
            return
        self._memory.reported(number, told)

    def _facts(self, trouble: str) -> Dict[str, Any]:
        trust = self._board.versions()
        facts = {"apps": self._board.releases(), "updates": self._memory.apps(), "trust": trust, "trouble": trouble}
        return dict(facts, hardware=enrolment.hardware_here(self._root))
