"""A release on its way through a fleet: the frozen plan, the waves, their gates, and how far every board is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeopt.core.fleet import Caps
from edgeopt.core.release import HealthFigures

RolloutState = Literal["planned", "running", "soaking", "paused", "halted", "rolling_back", "cancelled", "done"]
"""``halted`` stopped by itself, with a reason; ``paused`` by an operator. Both go on with ``fleet resume``."""

BoardState = Literal[
    "pending",
    "waiting",
    "leased",
    "preflight",
    "sending",
    "staged",
    "activated",
    "healthy",
    "committed",
    "skipped",
    "unreachable",
    "failed",
    "rolled_back",
    "bricked",
]
"""``waiting``: outside its window, or offline in a wave that went on. ``rolled_back``: it did not stay healthy and runs
what it ran before. ``failed``: the update did not come so far. ``bricked``: no release there is healthy."""

FailureClass = Literal[
    "", "network", "auth", "hostkey", "preflight", "verify", "stage", "smoke", "health", "rollback", "protocol", "busy"
]
"""What kind of failure; `RETRYABLE` ones are tried again by themselves."""

RETRYABLE: frozenset[str] = frozenset({"network", "busy"})
REFUSED = "refused: "
"""How the reason of a board begins that is left out, and could take the release but for something wrong there."""

SETTLED: frozenset[str] = frozenset({"committed", "skipped", "unreachable", "failed", "rolled_back", "bricked"})
"""States in which a board's part of a wave is over."""


@dataclass(frozen=True)
class GatePolicy:
    """When a wave may be followed by the next.

    Attributes:
        max_failures: Largest share of boards that may fail. The upper end of its Wilson interval must not be above it;
            a wave too small to show that (52 boards for 5 %) must be without failures.
        max_slower: Largest relative regression of the latency against the same boards before, per profile; the gate
            halts when it is shown at `confidence` that it is larger.
        max_memory: Largest relative regression of peak memory, per profile, likewise.
        max_unreachable: Largest share of a wave that may be away; the gate waits for them up to `max_wave_seconds`.
        min_boards: Fewest committed boards of a wave that may open the gate (the wave itself where it is smaller).
        soak_seconds: How long a wave is watched before its gate is judged; boards are measured again at its end.
        confidence: Of the bounds, one-sided.
        max_wave_seconds: A wave that takes longer halts the rollout.
        min_cosine: A board that kept the release with less similarity to the golden outputs counts as failed.
    """

    max_failures: float = 0.05
    max_slower: float = 0.03
    max_memory: float = 0.20
    max_unreachable: float = 0.34
    min_boards: int = 1
    soak_seconds: float = 0.0
    confidence: float = 0.95
    max_wave_seconds: float = 86400.0
    min_cosine: float = 0.0


@dataclass(frozen=True)
class PlannedBoard:
    """What will happen to one board, as far as it can be known.

    Attributes:
        board, profile, site: Who.
        wave: Number of its wave, from 1; 0 for a board that takes no part.
        action: ``update``, ``nothing`` (it runs the release already), ``skip``, ``unknown`` (not reached yet).
        reason: Why, in words.
        send_bytes: What would be sent, deltas and what it has already taken into account.
        free_bytes: Space there; ``None`` where it is not known.
        seconds: Expected duration; ``None`` where it is not known.
        before: Version that runs now; empty where none or not known.
    """

    board: str
    profile: str
    site: str
    wave: int
    action: Literal["update", "nothing", "skip", "unknown"]
    reason: str = ""
    send_bytes: int = 0
    free_bytes: int | None = None
    seconds: float | None = None
    before: str = ""


@dataclass(frozen=True)
class Plan:
    """The frozen plan of a rollout: same fleet, release and words give the same plan.

    Attributes:
        release: ``app@version``.
        manifest: SHA-256 of the release's manifest.
        waves: As the operator gave them: ``1``, ``10%``, ``100%``.
        boards: In the order of the waves.
        gate: When the next wave may begin.
        caps: How much at once.
        insecure_unsigned: Whether boards may do without signatures.
        digest: Of all of this.
    """

    release: str
    manifest: str
    waves: tuple[str, ...]
    boards: tuple[PlannedBoard, ...]
    gate: GatePolicy
    caps: Caps
    digest: str = ""
    insecure_unsigned: bool = False

    def wave(self, number: int) -> tuple[PlannedBoard, ...]:
        """The boards of a wave."""
        return tuple(board for board in self.boards if board.wave == number)


@dataclass(frozen=True)
class BoardProgress:
    """How far a board is.

    Attributes:
        board, profile, site, wave: Who.
        state: Where it stands.
        failure: Kind of failure, where it failed.
        detail: In words.
        attempts: How often it was begun.
        sent_bytes: What was sent so far.
        before, after: What the board measured of the release that it had, and of the new one, in one job.
        soaked: What it measured at the end of the soak.
        version: What runs there now, as the board said last.
        updated_at: Seconds since the epoch.
        retry_at: Before this time it is left alone: its window, or the wait before it is tried again.
        orders: Orders that it has answered without committing; the next one is another job there.
    """

    board: str
    profile: str
    site: str
    wave: int
    state: BoardState = "pending"
    failure: FailureClass = ""
    detail: str = ""
    attempts: int = 0
    sent_bytes: int = 0
    before: HealthFigures | None = None
    after: HealthFigures | None = None
    soaked: HealthFigures | None = None
    version: str = ""
    updated_at: float = 0.0
    retry_at: float = 0.0
    orders: int = 0


@dataclass(frozen=True)
class GateVerdict:
    """What the gate after a wave said.

    Attributes:
        wave: Its number.
        verdict: ``go``, ``wait`` (too few boards have said anything) or ``halt``.
        reasons: One line each; empty for ``go``.
        counts: Boards by state, as pairs.
        slower: Relative change of the latency by profile: estimate, low, high.
        judged_at: Seconds since the epoch.
    """

    wave: int
    verdict: Literal["go", "wait", "halt"]
    reasons: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    slower: tuple[tuple[str, float, float, float], ...]
    judged_at: float


@dataclass(frozen=True)
class Rollout:
    """A rollout as it stands.

    Attributes:
        rollout_id: 16 hex digits.
        plan: Frozen at the start.
        state: Where it stands.
        wave: The wave at work or last at work, from 1.
        reason: Why it is paused, halted or cancelled.
        holder: Who drives it: ``user@host:pid``; empty where nobody does.
        fence: Rises with every holder; boards refuse orders with a lower one.
        boards: How far each is, in the order of the plan.
        gates: What the gates said, in order.
        started_at, finished_at: Seconds since the epoch; 0 where not yet.
        wave_since: When the wave at work began.
        soak_until: When it has been watched for long enough; 0 while it is not soaking.
    """

    rollout_id: str
    plan: Plan
    state: RolloutState
    wave: int
    reason: str
    holder: str
    fence: int
    boards: tuple[BoardProgress, ...]
    gates: tuple[GateVerdict, ...]
    started_at: float
    finished_at: float = 0.0
    wave_since: float = 0.0
    soak_until: float = 0.0
