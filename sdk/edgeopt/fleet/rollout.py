"""A rollout's state machine: what boards and operators say comes in, which boards begin next comes out. Time comes in.

States: planned, running, (soaking,) gate, next wave, ..., done; paused and cancelled by an operator, halted by a gate.
It changes nothing outside itself; `workflow.fleet.engine` keeps what it says and does what it asks.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgeopt.core.rollout import SETTLED, BoardProgress, GateVerdict, Plan, PlannedBoard, Rollout
from edgeopt.errors import UsageError
from edgeopt.fleet.caps import BoardQueue, Place
from edgeopt.fleet.evidence import OVER, evidence_of
from edgeopt.fleet.gate import failure_reason, judge
from edgeopt.fleet.patience import Patience, comes_back
from edgeopt.fleet.soak import Soak
from edgeopt.fleet.waves import waves_of

UNDER_WAY = frozenset({"leased", "preflight", "sending", "staged", "activated", "healthy"})
ENDED = frozenset({"done", "cancelled"})
_LINED_UP_AT_ONCE = 256

Opens = Callable[[str, float], float]
"""When a board's window is next open: its name, and now; infinite where it never is again."""


@dataclass(frozen=True)
class Step:
    """What is to be done now.

    Attributes:
        start: Boards whose update begins, as they stand now.
        recheck: Boards that are to be measured again.
        changed: All boards that stand otherwise than before, those too.
        gate: What a gate said just now.
        next_at: When something happens by itself; ``None``: only when somebody says so.
    """

    start: tuple[BoardProgress, ...] = ()
    recheck: tuple[BoardProgress, ...] = ()
    changed: tuple[BoardProgress, ...] = ()
    gate: GateVerdict | None = None
    next_at: float | None = None


def new_rollout(rollout_id: str, plan: Plan) -> Rollout:
    """A rollout of a plan that nobody has begun."""
    boards = tuple(_first(board) for board in plan.boards)
    return Rollout(rollout_id, plan, "planned", 0, "", "", 0, boards, (), 0.0)


def _first(board: PlannedBoard) -> BoardProgress:
    state: Literal["pending", "committed", "skipped"] = "pending"
    if board.wave == 0:
        state = "committed" if board.action == "nothing" else "skipped"
    return BoardProgress(
        board.board, board.profile, board.site, board.wave, state, detail=board.reason, version=board.before
    )


class RolloutMachine:
    """A rollout in motion. One thread; a call is of the size of what changes, of which there is never much at once.

    Args:
        rollout: As it was kept. Boards that were under way when their driver went away are asked again, also in a
            rollout that does not go on.
        places: Jump host and site of each board.
        opens: When a board's window is open.
        patience: For boards that are away.
    """

    def __init__(
        self, rollout: Rollout, places: Mapping[str, Place], opens: Opens, patience: Patience | None = None
    ) -> None:
        self._head = dataclasses.replace(rollout, boards=())
        self._boards = {board.board: board for board in rollout.boards}
        self._waves = waves_of(rollout.plan)
        self._patience, self._opens = patience or Patience(), opens
        self._queue = BoardQueue(rollout.plan.caps, places)
        self._due: list[tuple[float, str]] = []
        self._changed: dict[str, BoardProgress] = {}
        self._coming: deque[str] = deque()
        self._unsettled: set[str] = set()
        self._judge_again, self._looked_at = True, 0
        self._stopping, self._last_opening = False, 0.0
        self._evidence, self._soak = evidence_of(rollout), Soak(rollout.wave, rollout.boards)
        if self.may_order:
            self._take_up()
        else:
            self._only_under_way()

    # what it knows

    @property
    def rollout(self) -> Rollout:
        """The rollout as it stands."""
        return dataclasses.replace(self._head, boards=tuple(self._boards.values()))

    @property
    def head(self) -> Rollout:
        """The same without its boards, which costs nothing."""
        return self._head

    @property
    def may_order(self) -> bool:
        """Whether boards may be told to change anything."""
        return self._head.state in ("running", "soaking") and not self._stopping

    @property
    def resting(self) -> bool:
        """Whether nothing is under way and nothing will begin unless somebody says something."""
        idle = not self._queue.busy and not self._soak.busy
        return idle and (self._stopping or (not self.may_order and not len(self._queue)))

    def board(self, name: str) -> BoardProgress:
        """How far a board is."""
        return self._boards[name]

    # what is said to it

    def begin(self, now: float) -> None:
        """Start a rollout that was planned."""
        if self._head.state == "planned":
            self._set(state="running", started_at=now)
            self._next_wave(now)

    def drain(self) -> None:
        """Begin nothing more; what is under way goes on."""
        if not self._stopping:
            self._stopping = True
            self._only_under_way()

    def order(self, command: str, who: str, now: float) -> None:
        """Pause, resume or cancel.

        Raises:
            UsageError: The rollout has ended, or the word is none of these.
        """
        if self._head.state in ENDED:
            raise UsageError(f"rollout {self._head.rollout_id} is {self._head.state}.", remedy="Begin another one.")
        if command == "pause":
            self._set(state="paused", reason=f"paused by {who}")
        elif command == "cancel":
            self._set(state="cancelled", reason=f"cancelled by {who}", finished_at=now)
        elif command == "resume":
            self._resume(who, now)
        else:
            raise UsageError(f"{command!r} is no order to a rollout.", remedy="Orders: pause, resume, cancel.")

    def halt(self, reason: str) -> None:
        """Stop by itself."""
        if self._head.state not in ENDED:
            self._set(state="halted", reason=reason)

    def report(self, progress: BoardProgress, *, over: bool, now: float) -> None:
        """A board has got further.

        Args:
            progress: How far.
            over: Whether nobody works on it any more.
            now: Seconds since the epoch.
        """
        name = progress.board
        if not over:
            self._keep(dataclasses.replace(progress, updated_at=now))
            last = self._head.wave + 1 not in self._waves
            if progress.state in UNDER_WAY and (last or progress.wave == self._head.wave):
                self._unsettled.add(name)  # one that was away is there again: the gate waits for its end
            return
        self._queue.done(name)
        self._soak.done(name)
        progress = self._with_patience(progress, now)
        self._keep(dataclasses.replace(progress, updated_at=now))
        self._judge_again = True
        if progress.state in SETTLED or progress.wave != self._head.wave:
            self._unsettled.discard(name)
        else:
            self._unsettled.add(name)
        if progress.wave < self._head.wave and progress.state in OVER:
            self._evidence.count(self._boards[name])

    # what it wants

    def tick(self, now: float) -> Step:
        """Decide what happens now."""
        gate = None
        if self.may_order:
            self._wake(now)
            gate = self._decide(now)
            for _ in range(min(len(self._coming), _LINED_UP_AT_ONCE)):
                self._line_up(self._coming.popleft(), now)
        start, recheck = tuple(self._begun(now)), tuple(self._soaked(now))
        changed, self._changed = tuple(self._changed.values()), {}
        return Step(start, recheck, changed, gate, self._next_at())

    def _begun(self, now: float) -> list[BoardProgress]:
        """Boards whose turn it is; one whose window closed while it stood in line is lined up anew."""
        begun: list[BoardProgress] = []
        looked_at = 0
        while looked_at < _LINED_UP_AT_ONCE and (names := self._queue.take()):
            looked_at += len(names)
            for name in names:
                if self._boards[name].state in UNDER_WAY or self._opens(name, now) <= now:
                    begun.append(self._started(name, now))
                else:
                    self._queue.done(name)
                    self._coming.append(name)
        return begun

    def _started(self, name: str, now: float) -> BoardProgress:
        board = self._boards[name]
        begun = dataclasses.replace(board, state="leased", attempts=board.attempts + 1, updated_at=now, retry_at=0.0)
        self._keep(begun)
        return begun

    # inside

    def _set(self, **fields: Any) -> None:
        self._head = dataclasses.replace(self._head, **fields)
        if not self.may_order:
            self._only_under_way()

    def _only_under_way(self) -> None:
        """Send away who waits, but for boards that a driver who went away had begun: they are asked what is true."""
        self._queue.clear()
        self._coming.clear()
        for name, board in self._boards.items():
            if board.state in UNDER_WAY:
                self._queue.add(name)

    def _keep(self, board: BoardProgress) -> None:
        self._boards[board.board] = self._changed[board.board] = board
        self._evidence.put(board)
        self._soak.put(board)

    def _take_up(self) -> None:
        """Line up the boards of the waves so far that are not over."""
        for number in range(1, self._head.wave + 1):
            for name in self._waves[number]:
                board = self._boards[name]
                if board.state == "waiting" or comes_back(board):
                    heapq.heappush(self._due, (board.retry_at, name))
                elif board.state in UNDER_WAY:
                    self._queue.add(name)
                elif board.state not in SETTLED:
                    self._coming.append(name)
                if number == self._head.wave and board.state not in SETTLED:
                    self._unsettled.add(name)

    def _next_wave(self, now: float) -> None:
        number = self._head.wave + 1
        if number not in self._waves:
            self._set(state="done", finished_at=now, soak_until=0.0)
            return
        self._head = dataclasses.replace(self._head, state="running", wave=number, wave_since=now, soak_until=0.0)
        self._looked_at, self._judge_again, self._last_opening = 0, True, 0.0
        self._unsettled = {name for name in self._waves[number] if self._boards[name].state not in SETTLED}
        self._coming.extend(self._waves[number])
        self._soak = Soak(number)
        self._evidence.count_only(self._boards[name] for name in self._waves[number])

    def _line_up(self, name: str, now: float) -> None:
        """Have a board wait for its turn, or for its window."""
        board = self._boards[name]
        if board.state in OVER:
            return
        opens = self._opens(name, now)
        if opens <= now:
            self._queue.add(name)
            return
        if math.isinf(opens):
            self._keep(dataclasses.replace(board, state="unreachable", detail="its window has passed", retry_at=0.0))
            self._unsettled.discard(name)
            return
        if (board.state, board.retry_at) != ("waiting", opens):
            self._keep(dataclasses.replace(board, state="waiting", detail="its window is closed", retry_at=opens))
        self._awaits_window(name, opens)

    def _awaits_window(self, name: str, opens: float) -> None:
        """The wave's time begins anew when the last of its windows opens."""
        self._last_opening = max(self._last_opening, opens)
        heapq.heappush(self._due, (opens, name))

    def _wake(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, name = heapq.heappop(self._due)
            board = self._boards[name]
            if board.state in ("waiting", "unreachable") and board.retry_at <= now:
                self._line_up(name, now)

    def _with_patience(self, board: BoardProgress, now: float) -> BoardProgress:
        """A board that may be tried again, with the time for it."""
        if board.state == "waiting":  # the board told us that its window is closed
            self._awaits_window(board.board, board.retry_at)
        elif board.state == "pending" and self.may_order:
            self._queue.add(board.board)
        elif comes_back(board):
            board = self._patience.of(board, now)
            heapq.heappush(self._due, (board.retry_at, board.board))
        return board

    def _decide(self, now: float) -> GateVerdict | None:
        """Whether the wave is over, hopeless or too slow."""
        if self._judge_again and not self._overridden():
            reason = self._hopeless(now)
            if reason:
                return self._halted(reason, now)
        if self._unsettled:
            return self._overdue(now)
        if self._head.plan.gate.soak_seconds > 0 and not self._soak_over(now):
            return None
        if not self._judge_again:
            return self._overdue(now)
        self._judge_again = False
        return self._judged(now)

    def _judged(self, now: float) -> GateVerdict:
        verdict = judge(self._head.wave, self._evidence, now)
        if self._overridden():
            verdict = dataclasses.replace(verdict, verdict="go", reasons=())
        last = self._head.gates[-1] if self._head.gates else None
        if verdict.verdict != "wait" or last is None or (last.wave, last.verdict) != (verdict.wave, "wait"):
            self._head = dataclasses.replace(self._head, gates=(*self._head.gates, verdict))
        if verdict.verdict == "go":
            self._next_wave(now)
        elif verdict.verdict == "halt":
            self.halt("; ".join(verdict.reasons))
        return verdict

    def _hopeless(self, now: float) -> str:
        """Why the gate cannot open any more, while boards are still under way."""
        reason = failure_reason(self._evidence)
        ended = len(self._waves[self._head.wave]) - len(self._unsettled)
        if reason or not self._unsettled or ended < max(20, 1.5 * self._looked_at):
            return reason
        self._looked_at = ended  # at every half more, so that all looks together cost three times the last
        verdict = judge(self._head.wave, self._evidence, now)
        return "; ".join(verdict.reasons) if verdict.verdict == "halt" else ""

    def _halted(self, reason: str, now: float) -> GateVerdict:
        verdict = dataclasses.replace(judge(self._head.wave, self._evidence, now), verdict="halt", reasons=(reason,))
        self._head = dataclasses.replace(self._head, gates=(*self._head.gates, verdict))
        self.halt(reason)
        return verdict

    def _overridden(self) -> bool:
        """Whether an operator told this wave to go on in spite of its gate."""
        return any(gate.wave == self._head.wave and gate.verdict == "go" for gate in self._head.gates)

    def _overdue(self, now: float) -> GateVerdict | None:
        limit = self._head.plan.gate.max_wave_seconds
        if now - max(self._head.wave_since, self._last_opening) <= limit or self._overridden():
            return None
        return self._halted(f"wave {self._head.wave} takes longer than {limit:.0f} s", now)

    def _soak_over(self, now: float) -> bool:
        """Whether the wave has been watched for long enough, and all of its boards have been measured again."""
        if not self._head.soak_until:
            until = now + self._head.plan.gate.soak_seconds
            self._head = dataclasses.replace(self._head, state="soaking", soak_until=until)
            return False
        return now >= self._head.soak_until and self._soak.over

    def _soaked(self, now: float) -> list[BoardProgress]:
        """Boards that are to be measured again now, under the cap of boards at a time."""
        if self._head.state != "soaking" or not self.may_order or now < self._head.soak_until:
            return []
        room = self._head.plan.caps.concurrency - self._queue.busy - self._soak.busy
        return [self._boards[name] for name in self._soak.take(room)]

    def _resume(self, who: str, now: float) -> None:
        if self._head.state == "halted":
            counts = self._head.gates[-1].counts if self._head.gates else ()
            passed = GateVerdict(self._head.wave, "go", (f"{self._head.reason}; resumed by {who}",), counts, (), now)
            self._head = dataclasses.replace(self._head, gates=(*self._head.gates, passed))
        if self._head.state in ("halted", "paused"):
            state: Literal["soaking", "running"] = "soaking" if self._head.soak_until else "running"
            self._head = dataclasses.replace(self._head, state=state, reason="", wave_since=now)
            self._judge_again, self._due = True, []
            self._take_up()

    def _next_at(self) -> float | None:
        if not self.may_order:
            return None
        if self._coming:
            return 0.0
        times = [self._due[0][0]] if self._due else []
        if self._head.state == "soaking":
            times.append(self._head.soak_until)
        times.append(max(self._head.wave_since, self._last_opening) + self._head.plan.gate.max_wave_seconds)
        return min(times)
