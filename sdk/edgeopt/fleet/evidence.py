"""What the boards of a rollout did and measured, kept as they report: a gate over ten thousand boards reads columns.

Nothing is judged here; see `gate`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeopt.core.release import HealthFigures
from edgeopt.core.rollout import SETTLED, BoardProgress, GatePolicy, Rollout
from edgeopt.fleet.regression import DISTURBED_SPREAD, USUAL_SPREAD, Array, outliers

FAILED = frozenset({"failed", "rolled_back", "bricked"})
AWAY = frozenset({"unreachable", "waiting"})
OVER = SETTLED - {"unreachable"}
_LEAST_QUIET = 3
"""With so many boards that nothing disturbed, those that something did are not asked."""
_FIRST_ROWS = 16
_UNKNOWN = (math.nan, math.nan, math.nan)


def counts_as_failed(board: BoardProgress, policy: GatePolicy) -> bool:
    """Whether a board failed, or says that it kept a release whose outputs do not agree."""
    if board.state == "committed":
        figures = board.soaked or board.after
        return figures is not None and figures.cosine < policy.min_cosine
    return board.state in FAILED


@dataclass(frozen=True, eq=False)
class Sample:
    """What the boards of one profile measured.

    Attributes:
        names: Of the boards.
        disturbed: What disturbed those that were.
        spread: Usual for their log ratios.
        odd: [boards], whether a board's change of anything is not like that of the others.
        change: [boards, figures], log ratio of now to before; NaN where either was not measured.
        drift: The same of the end of the soak to its beginning.
    """

    names: list[str]
    disturbed: list[str]
    spread: float
    odd: NDArray[np.bool_]
    change: Array
    drift: Array

    def strange(self) -> list[str]:
        """The boards in quarantine."""
        return [self.names[row] for row in np.flatnonzero(self.odd)]


class Evidence:
    """All boards that run the release, and how those stand that a gate counts. What it takes in costs its own size.

    Args:
        policy: Says what counts as a failure.
    """

    def __init__(self, policy: GatePolicy) -> None:
        self.policy = policy
        self._profiles: dict[str, _Columns] = {}
        self._counted: dict[str, BoardProgress] = {}
        self._states: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._bricked: set[str] = set()

    def put(self, board: BoardProgress) -> None:
        """Take in how a board stands now, in place of what was known of it."""
        known = self._counted.get(board.board)
        if known is not None:
            self._count(known, -1)
            self._count(board, 1)
            self._counted[board.board] = board
        self._profiles.setdefault(board.profile, _Columns()).put(board)

    def count_only(self, boards: Iterable[BoardProgress]) -> None:
        """A wave begins: failures and absence are counted of these boards alone."""
        self._counted.clear()
        self._states.clear()
        self._failures.clear()
        self._bricked.clear()
        for board in boards:
            self.count(board)

    def count(self, board: BoardProgress) -> None:
        """Count a board too: one of an earlier wave that was away when that was judged."""
        if board.board not in self._counted:
            self._counted[board.board] = board
            self._count(board, 1)
            self._profiles.setdefault(board.profile, _Columns()).put(board)
        else:
            self.put(board)

    def _count(self, board: BoardProgress, by: int) -> None:
        self._states[board.state] += by
        if counts_as_failed(board, self.policy):
            self._failures[board.failure or "health"] += by
        if board.state == "bricked":
            (self._bricked.add if by > 0 else self._bricked.discard)(board.board)

    # what is known

    @property
    def states(self) -> Counter[str]:
        """How many of the boards that count stand how."""
        return +self._states

    @property
    def failures(self) -> Counter[str]:
        """How many of them failed, by kind."""
        return +self._failures

    @property
    def bricked(self) -> list[str]:
        """Those of them on which no release is healthy."""
        return sorted(self._bricked)

    @property
    def away(self) -> int:
        """How many of them are away."""
        return sum(self._states[state] for state in AWAY)

    @property
    def taking_part(self) -> int:
        """How many of them did not decline."""
        return len(self._counted) - self._states["skipped"]

    def counted(self, names: Iterable[str]) -> int:
        """How many of these count."""
        return sum(name in self._counted for name in names)

    def samples(self) -> dict[str, Sample]:
        """What all boards that run the release measured, by profile."""
        found = ((profile, self._profiles[profile].sample()) for profile in sorted(self._profiles))
        return {profile: sample for profile, sample in found if sample is not None}


def evidence_of(rollout: Rollout) -> Evidence:
    """What is known of all boards of a rollout that was kept."""
    evidence, wave = Evidence(rollout.plan.gate), rollout.wave
    since = max((gate.judged_at for gate in rollout.gates if gate.wave < wave), default=math.inf)
    for board in rollout.boards:
        late = 0 < board.wave < wave and board.state in OVER and board.updated_at > since
        (evidence.count if late or 0 < board.wave == wave else evidence.put)(board)
    return evidence


class _Columns:
    """The figures of one profile's boards: [boards, before, after and soaked of median, 95th percentile, memory]."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._values = np.full((_FIRST_ROWS, 9), math.nan)
        self._runs = np.zeros(_FIRST_ROWS, np.bool_)
        self._noisy = np.zeros(_FIRST_ROWS, np.bool_)
        self._words: dict[int, str] = {}

    def put(self, board: BoardProgress) -> None:
        """Take in a board; one that does not run the release says nothing."""
        row = self._rows.get(board.board)
        if board.state != "committed":
            if row is not None:
                self._runs[row] = False
            return
        if row is None:
            row = self._row_for(board.board)
        self._values[row] = (*_three(board.before), *_three(board.after), *_three(board.soaked))
        self._words[row] = _disturbance(board)
        self._runs[row], self._noisy[row] = True, bool(self._words[row])

    def _row_for(self, name: str) -> int:
        row = self._rows[name] = len(self._names)
        self._names.append(name)
        if row == len(self._runs):
            self._values = np.concatenate((self._values, np.full_like(self._values, math.nan)))
            self._runs, self._noisy = (np.concatenate((one, np.zeros_like(one))) for one in (self._runs, self._noisy))
        return row

    def sample(self) -> Sample | None:
        """Quiet boards speak for a profile; where there are too few, all do: old and new took turns on each of them,
        so that what disturbed one disturbed the other. ``None`` where no board runs the release.
        """
        rows = np.flatnonzero(self._runs)
        if not rows.size:
            return None
        known, noisy = ~np.isnan(self._values[rows][:, [0, 3]]).any(axis=1), self._noisy[rows]
        enough = np.count_nonzero(known & ~noisy) >= _LEAST_QUIET
        disturbed = [] if enough else [self._words[row] for row in rows[noisy]]
        taken = rows[~noisy] if enough else rows
        before, after, soaked = np.split(self._values[taken], 3, axis=1)
        change, drift = _logs(before, np.where(np.isnan(soaked), after, soaked)), _logs(after, soaked)
        odd = np.logical_or.reduce([outliers(column) for column in change.T])
        spread = DISTURBED_SPREAD if disturbed else USUAL_SPREAD
        return Sample([self._names[row] for row in taken], disturbed, spread, odd, change, drift)


def _three(figures: HealthFigures | None) -> tuple[float, float, float]:
    return _UNKNOWN if figures is None else (figures.median_ns, figures.p95_ns, figures.memory_bytes)


def _disturbance(board: BoardProgress) -> str:
    figures = [one for one in (board.before, board.soaked or board.after) if one is not None and one.disturbed]
    return ",".join(sorted({word for one in figures for word in one.disturbed.split(",") if word}))


def _logs(first: Array, second: Array) -> Array:
    """Log ratios; NaN where either is not positive."""
    sound = (first > 0) & (second > 0)
    logs: Array = np.log(np.divide(second, first, out=np.full_like(first, math.nan), where=sound))
    return logs
