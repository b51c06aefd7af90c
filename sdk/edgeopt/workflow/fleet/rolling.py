"""Rolls a release out: finds the rollout that the same command began, or plans one, and drives it; all is audited."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeopt.core.fleet import Caps, Fleet
from edgeopt.core.rollout import REFUSED, BoardProgress, GatePolicy, GateVerdict, Plan, Rollout
from edgeopt.errors import EXIT_BUDGET, EXIT_DEVICE, EXIT_DONE
from edgeopt.fleet.plan import Forecast
from edgeopt.fleet.rollout import new_rollout
from edgeopt.fleet.selectors import select_boards
from edgeopt.fleet.waves import DEFAULT_WAVES
from edgeopt.remote.hostkeys import twin_words, twins
from edgeopt.report.fleet_summary import gate_line, went_well
from edgeopt.store.keys import exact_key
from edgeopt.store.rollouts import RolloutStore
from edgeopt.workflow.fleet import planning
from edgeopt.workflow.fleet.auditing import audit_log, deed, note
from edgeopt.workflow.fleet.engine import Silence, Terms, Watcher, drive
from edgeopt.workflow.fleet.engine_live import Carrier
from edgeopt.workflow.fleet.planning import Question
from edgeopt.workflow.fleet.publishing import find_release
from edgeopt.workflow.fleet.rollouts import rollout_store
from edgeopt.workflow.fleet.sources import TreeSource
from edgeopt.workflow.workspace import Workspace

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class RolloutRequest:
    """What an operator asks for.

    Attributes:
        release: ``app@version``.
        selector: Which boards.
        waves: Words of `fleet.waves`.
        gate: When the next wave may begin.
        caps: How much at once.
        insecure_unsigned: Let boards do without signatures, which marks them.
        command: The command line, for the log and the report.
    """

    release: str
    selector: str
    waves: tuple[str, ...] = DEFAULT_WAVES
    gate: GatePolicy = field(default_factory=GatePolicy)
    caps: Caps = field(default_factory=Caps)
    insecure_unsigned: bool = False
    command: str = ""


@dataclass(frozen=True)
class Prepared:
    """A rollout that can be driven.

    Attributes:
        plan: Frozen.
        rollout_id: Of the one that the same command began and that has not ended; empty: there is none yet.
        key: Equal for equal commands.
    """

    plan: Plan
    rollout_id: str
    key: str

    @property
    def refused(self) -> tuple[str, ...]:
        """Boards that could take the release but for something that is wrong there, each with the reason."""
        return tuple(
            f"{board.board}: {board.reason.removeprefix(REFUSED)}"
            for board in self.plan.boards
            if board.action == "skip" and board.reason.startswith(REFUSED)
        )

    @property
    def takes_part(self) -> int:
        """Boards in a wave."""
        return sum(board.wave > 0 for board in self.plan.boards)


def prepare(
    request: RolloutRequest,
    fleet: Fleet,
    workspace: Workspace,
    *,
    heard: Callable[[str, Forecast], None] = lambda _, __: None,
    now: Callable[[], float] = time.time,
) -> Prepared:
    """Find the unfinished rollout of this command, or ask the boards and plan one; nothing is changed.

    Args:
        request: What is asked for.
        fleet: All boards.
        workspace: Where releases and rollouts are.
        heard: Told of each board's answer.
        now: Seconds since the epoch.

    Raises:
        UsageError: The release is not published, or no board is selected.
        EdgeoptError: The tree cannot be signed anew, or a file of the release is gone.
    """
    published = find_release(request.release, workspace)
    boards = select_boards(fleet.boards, request.selector)
    names = sorted(board.name for board in boards)
    asked = [published.manifest, names, request.waves, dataclasses.asdict(request.gate)]
    key = exact_key("rollout", [*asked, dataclasses.asdict(request.caps), request.insecure_unsigned])
    with rollout_store(workspace) as store:
        found = store.find_open(key)
        if found is not None:
            return Prepared(store.rollout(found).plan, found, key)
    terms = (request.waves, request.gate, request.caps, request.insecure_unsigned)
    alike = twins([board.device for board in boards])
    notes = {name: twin_words(others) for name, others in alike.items()}
    question = Question(published, boards, *terms, now=now(), notes=notes)
    return Prepared(planning.make_plan(question, carrier_of(fleet, workspace), heard=heard), "", key)


def carrier_of(fleet: Fleet, workspace: Workspace) -> Carrier:
    """How the engine reaches the boards of a fleet."""
    devices = {board.name: board.device for board in fleet.boards}
    return Carrier(devices, TreeSource(workspace), workspace.cache_folder("patches"))


def begin(
    prepared: Prepared, request: RolloutRequest, workspace: Workspace, *, now: Callable[[], float] = time.time
) -> str:
    """Keep a planned rollout, so that it can be driven; returns its id.

    Raises:
        StoreError: The ledger or the audit log cannot be written.
    """
    if prepared.rollout_id:
        return prepared.rollout_id
    rollout = new_rollout(secrets.token_hex(8), prepared.plan)
    with deed(audit_log(workspace), "rollout.start", rollout.rollout_id, request.command or request.release, now=now):
        _keep(rollout, prepared, request, workspace, now)
    return rollout.rollout_id


def _keep(
    rollout: Rollout, prepared: Prepared, request: RolloutRequest, workspace: Workspace, now: Callable[[], float]
) -> None:
    if request.insecure_unsigned:
        note(workspace, "insecure", rollout.rollout_id, f"{request.release} goes to boards unsigned", now=now)
    with rollout_store(workspace) as store:
        store.create(rollout, key=prepared.key, now=now())


def roll_out(
    rollout_id: str,
    fleet: Fleet,
    workspace: Workspace,
    *,
    terms: Terms | None = None,
    watcher: Watcher | None = None,
) -> Rollout:
    """Drive a rollout as far as it goes, and log what its gates say.

    Args:
        rollout_id: The rollout.
        fleet: All boards.
        workspace: Where it is kept.
        terms: Who drives it, and how.
        watcher: Hears of it.

    Returns:
        The rollout as it stands then.

    Raises:
        RolloutBusyError: Somebody else drives it.
        EdgeoptError: Something that no board is to blame for.
    """
    terms = terms or Terms()
    with rollout_store(workspace) as store:
        _note_takeover(rollout_id, store, terms, workspace)
        logging = _Logging(workspace, store.rollout(rollout_id), watcher or Silence())
        return drive(store, rollout_id, fleet, carrier_of(fleet, workspace), terms, logging)


def _note_takeover(rollout_id: str, store: RolloutStore, terms: Terms, workspace: Workspace) -> None:
    if not terms.takeover:
        return
    app = store.rollout(rollout_id).plan.release.partition("@")[0]
    lease = store.lease(app)
    if lease is not None and lease.holder != terms.holder:
        note(workspace, "rollout.takeover", rollout_id, f"from {lease.holder}, fence {lease.fence}")


class _Logging:
    """A watcher that writes gates and changes of the rollout's state into the audit log, and tells another."""

    def __init__(self, workspace: Workspace, rollout: Rollout, told: Watcher) -> None:
        self._workspace, self._told = workspace, told
        self._id, self._state = rollout.rollout_id, rollout.state

    def moved(self, head: Rollout, boards: tuple[BoardProgress, ...]) -> None:
        """The rollout, without its boards, and those that stand otherwise."""
        if head.state != self._state and head.state in ("halted", "paused", "cancelled", "done"):
            note(self._workspace, f"rollout.{head.state}", self._id, head.reason)
        self._state = head.state
        self._told.moved(head, boards)

    def judged(self, verdict: GateVerdict) -> None:
        """What a gate said."""
        note(self._workspace, "rollout.gate", self._id, f"wave {verdict.wave} {gate_line(verdict)}")
        self._told.judged(verdict)

    def bytes(self, board: str, there: int, of: int) -> None:
        """What a board has of what it is sent."""
        self._told.bytes(board, there, of)


def exit_code(rollout: Rollout) -> int:
    """What a command ends with.

    Returns:
        0: every board runs the release, or it is not for it. 3: halted by a gate, or cancelled. 4: it is done, but for
        boards that failed, refused or are away. 130: it was interrupted, and goes on with the same command.
    """
    if rollout.state in ("halted", "cancelled"):
        return EXIT_BUDGET
    if rollout.state != "done":
        return EXIT_INTERRUPTED
    return EXIT_DONE if went_well(rollout) else EXIT_DEVICE
