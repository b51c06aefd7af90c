"""What a rollout came to, in words and short rows: for its page, its table on a terminal and its metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.core.rollout import REFUSED, SETTLED, BoardProgress, GatePolicy, GateVerdict, Rollout
from edgeopt.report import quantities as q

FAILED = frozenset({"failed", "rolled_back", "bricked"})
AT_WORK = frozenset({"leased", "preflight", "sending", "staged", "activated", "healthy"})
MARKS = {
    "committed": "✓ committed",
    "skipped": "– skipped",
    "unreachable": "? unreachable",
    "failed": "✗ failed",
    "rolled_back": "↩ rolled back",
    "bricked": "!! no healthy release",
    "waiting": "… waiting",
    "pending": "pending",
}
MOST_ROWS = 4000
"""Boards that a page lists; those that need looking at come first."""


@dataclass(frozen=True)
class Tile:
    """A figure of the header."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class WaveRow:
    """A wave as it stands.

    Attributes:
        number: From 1.
        size: As the operator gave it: ``10%``.
        counts: Boards by state.
        gate: The last verdict after it; ``None`` where it was not judged yet.
    """

    number: int
    size: str
    counts: Counter[str]
    gate: GateVerdict | None

    @property
    def boards(self) -> int:
        """How many."""
        return self.counts.total()

    @property
    def settled(self) -> int:
        """Boards whose part is over."""
        return sum(self.counts[state] for state in SETTLED)

    @property
    def failed(self) -> int:
        """Boards that failed, went back or run nothing."""
        return sum(self.counts[state] for state in FAILED)


def taking_part(rollout: Rollout) -> tuple[BoardProgress, ...]:
    """The boards that belong to a wave; the others need nothing, or cannot take part."""
    return tuple(board for board in rollout.boards if board.wave > 0)


def counts_of(rollout: Rollout) -> Counter[str]:
    """Boards by state."""
    return Counter(board.state for board in rollout.boards)


def waves(rollout: Rollout) -> tuple[WaveRow, ...]:
    """Every wave of the plan."""
    gates = {gate.wave: gate for gate in rollout.gates}
    by_wave: dict[int, Counter[str]] = {}
    for board in taking_part(rollout):
        by_wave.setdefault(board.wave, Counter())[board.state] += 1
    sizes = dict(enumerate(rollout.plan.waves, 1))
    numbers = sorted({*by_wave, *sizes})
    return tuple(
        WaveRow(number, sizes.get(number, ""), by_wave.get(number, Counter()), gates.get(number)) for number in numbers
    )


def refused(rollout: Rollout) -> tuple[BoardProgress, ...]:
    """Boards that were left out for something that is wrong there."""
    return tuple(board for board in rollout.boards if board.state == "skipped" and board.detail.startswith(REFUSED))


def went_well(rollout: Rollout) -> bool:
    """Whether it is done and every board runs the release, but for those that it is not for."""
    counts = counts_of(rollout)
    settled = counts.total() == counts["committed"] + counts["skipped"]
    return rollout.state == "done" and settled and not refused(rollout)


def headline(rollout: Rollout) -> str:
    """One sentence: where the rollout stands."""
    counts, name = counts_of(rollout), rollout.plan.release
    runs = f"{counts['committed']} of {counts.total()} boards"
    return {
        "done": f"{name} runs on {runs}.",
        "halted": f"Halted in wave {rollout.wave}: {runs} run {name}.",
        "paused": f"Paused in wave {rollout.wave}: {runs} run {name}.",
        "cancelled": f"Cancelled in wave {rollout.wave}: {runs} run {name}.",
        "rolling_back": f"Going back: {runs} still run {name}.",
        "planned": f"{name} is planned for {counts.total()} boards.",
    }.get(rollout.state, f"Wave {rollout.wave} is under way: {runs} run {name}.")


def sentences(rollout: Rollout) -> tuple[str, ...]:
    """What follows the headline: the reason, and what became of the boards that do not run the release."""
    counts = counts_of(rollout)
    said = [rollout.reason] if rollout.reason else []
    words = (
        ("rolled_back", "did not stay healthy; back on what ran before"),
        ("failed", "failed, each with its reason in the list"),
        ("bricked", "no healthy release is left there: look now"),
        ("unreachable", "not reached"),
        ("waiting", "waiting for a window, or away"),
        ("skipped", "left out"),
    )
    said += [f"{counts[state]} board{'s' * (counts[state] != 1)}: {text}." for state, text in words if counts[state]]
    return tuple(said)


def tiles(rollout: Rollout) -> tuple[Tile, ...]:
    """The figures of the header."""
    counts, boards = counts_of(rollout), taking_part(rollout)
    failed = sum(counts[state] for state in FAILED)
    made = [
        Tile("boards with the release", f"{counts['committed']} / {counts.total()}", _share(counts)),
        Tile("failed", str(failed), f"{_failures(rollout.plan.gate)} allowed"),
    ]
    worst = max(latest_changes(rollout), key=lambda row: row[1], default=None)
    if worst is not None:
        note = f"{worst[0]}; {percent(rollout.plan.gate.max_slower)} allowed"
        made.append(Tile("latency, slowest profile", percent(worst[1]), note))
    sent = sum(board.sent_bytes for board in boards)
    made.append(Tile("sent", q.size(sent), f"{sum(board.attempts for board in boards)} attempts"))
    if rollout.started_at and rollout.finished_at:
        made.append(Tile("took", q.duration(rollout.finished_at - rollout.started_at)))
    return tuple(made)


def _failures(gate: GatePolicy) -> str:
    """The share of boards that may fail: an upper end of 0 % is never shown, so where none may fail it says that."""
    return f"at most {q.significant(gate.max_failures * 100)} %" if gate.max_failures else "none"


def _shown(gate: GatePolicy) -> str:
    return f", shown at confidence {gate.confidence:g}; none in waves too small for that" if gate.max_failures else ""


def _share(counts: Counter[str]) -> str:
    return f"{q.significant(100 * counts['committed'] / counts.total())} %" if counts.total() else ""


def latest_changes(rollout: Rollout) -> tuple[tuple[str, float, float, float], ...]:
    """By profile what the last gates estimated of the latency's change: estimate, low, high."""
    found = {row[0]: row for gate in rollout.gates for row in gate.slower}
    return tuple(found.values())


def percent(share: float) -> str:
    """A relative change as ``+3.2 %``."""
    if not math.isfinite(share):
        return q.NONE
    value = share * 100
    return f"{q.MINUS if value < 0 else '+'}{abs(value):.1f} %"


def change(board: BoardProgress) -> float | None:
    """Relative change of a board's median; ``None`` where one of the two was not measured."""
    if board.before is None or board.after is None or board.before.median_ns <= 0:
        return None
    return board.after.median_ns / board.before.median_ns - 1


def over_budget(board: BoardProgress, rollout: Rollout) -> bool:
    """Whether a board alone got slower than the gate allows for its profile."""
    found = change(board)
    return found is not None and found > rollout.plan.gate.max_slower


def urgent_first(boards: Sequence[BoardProgress], rollout: Rollout) -> tuple[BoardProgress, ...]:
    """Boards that need looking at first, then those at work, then the rest in their order; at most `MOST_ROWS`."""
    ranks = {"bricked": 0, "rolled_back": 1, "failed": 2, "unreachable": 3, "waiting": 6}
    ranks |= {"committed": 7, "skipped": 8, "pending": 9}

    def rank(board: BoardProgress) -> int:
        if board.detail.startswith(REFUSED):
            return 2
        return 4 if board.state == "committed" and over_budget(board, rollout) else ranks.get(board.state, 5)

    return tuple(sorted(boards, key=rank)[:MOST_ROWS])


def gate_line(gate: GateVerdict) -> str:
    """A verdict in one line."""
    words = {"go": "open", "wait": "waits", "halt": "halted"}[gate.verdict]
    return f"{words}: {'; '.join(gate.reasons)}" if gate.reasons else words


def policy_rows(rollout: Rollout) -> tuple[tuple[str, str], ...]:
    """What the gates and the caps demand, as pairs of name and value."""
    gate, caps = rollout.plan.gate, rollout.plan.caps
    return (
        ("waves", ", ".join(rollout.plan.waves)),
        ("failures", f"{_failures(gate)} allowed{_shown(gate)}"),
        ("latency", f"at most {percent(gate.max_slower)} against before, by profile"),
        ("memory", f"at most {percent(gate.max_memory)}"),
        ("unreachable", f"at most {q.significant(gate.max_unreachable * 100)} %"),
        ("soak", q.duration(gate.soak_seconds) if gate.soak_seconds else "none"),
        ("at once", f"{caps.concurrency} boards, {caps.per_jump} behind one jump host"),
        ("bandwidth", f"{q.size(caps.bytes_per_second)}/s" if caps.bytes_per_second else "not limited"),
    )
