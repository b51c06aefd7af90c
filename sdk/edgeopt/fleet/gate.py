"""The gate after a wave: whether what its boards did and measured lets the next wave begin. Never passes on silence."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeopt.core.release import HealthFigures
from edgeopt.core.rollout import BoardProgress, GatePolicy, GateVerdict
from edgeopt.fleet.regression import DISTURBED_SPREAD, USUAL_SPREAD, Array, Change, change_of_logs, outliers

FAILED = frozenset({"failed", "rolled_back", "bricked"})
_AWAY = frozenset({"unreachable", "waiting"})
_LEAST_QUIET = 3
"""With so many boards that nothing disturbed, those that something did are not asked."""
_FIGURES = ("median latency", "95th percentile", "memory")
_NOTHING = (1.0, 1.0, 1.0, math.nan, math.nan, math.nan)


def wilson_upper(failed: int, of: int, confidence: float) -> float:
    """Upper end of the one-sided interval for a share.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927, eq. 7:
    ``(p + z²/2n + z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)``.

    Args:
        failed: How many.
        of: Out of how many; with none the share may be anything, and the bound is 1.
        confidence: In (0.5, 1).
    """
    if of == 0:
        return 1.0
    z, share = statistics.NormalDist().inv_cdf(confidence), failed / of
    middle = share + z**2 / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return (middle + half) / (1 + z**2 / of)


def failures_allowed(of: int, policy: GatePolicy) -> int:
    """Most failures among so many boards that a gate lets pass; none where they are too few to show the limit."""
    low, high = 0, of + 1  # the bound rises with the failures, so the last that is allowed is found by halving
    while high - low > 1:
        middle = (low + high) // 2
        if wilson_upper(middle, of, policy.confidence) <= policy.max_failures:
            low = middle
        else:
            high = middle
    return low


def failure_reason(boards: Sequence[BoardProgress], policy: GatePolicy) -> str:
    """Why a wave cannot pass any more, however its other boards end; empty while it still can.

    Args:
        boards: Of the wave, those under way too.
        policy: The limits.
    """
    bricked = sorted(board.board for board in boards if board.state == "bricked")
    if bricked:
        return f"no release is healthy on {', '.join(bricked[:5])}: one such board is too many"
    failed = [board for board in boards if counts_as_failed(board, policy)]
    of = sum(board.state != "skipped" and board.state not in _AWAY for board in boards)
    if len(failed) <= failures_allowed(of, policy):
        return ""
    kinds = Counter(board.failure or "health" for board in failed)
    said = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    bound = wilson_upper(len(failed), of, policy.confidence)
    most = f"so up to {bound:.1%} of such boards may, and {policy.max_failures:.1%} are allowed"
    return f"{len(failed)} of {of} boards failed ({said}): {most}"


def counts_as_failed(board: BoardProgress, policy: GatePolicy) -> bool:
    """Whether a board failed, or says that it kept a release whose outputs do not agree."""
    if board.state == "committed":
        figures = board.soaked or board.after
        return figures is not None and figures.cosine < policy.min_cosine
    return board.state in FAILED


def judge(
    wave: int,
    boards: Sequence[BoardProgress],
    policy: GatePolicy,
    now: float,
    late: frozenset[str] = frozenset(),
) -> GateVerdict:
    """Judge a wave.

    Failures, absence and the least sample are of the wave; regressions of all boards so far, since the same release
    runs on them. Boards that were skipped are no failures; boards whose figures do not belong to those of their
    profile are in quarantine: they neither carry the gate nor stop it.

    Args:
        wave: Its number.
        boards: All boards of this wave and of those before it.
        policy: The limits.
        now: Seconds since the epoch.
        late: Boards of earlier waves that were away when those were judged; they are judged with this one.
    """
    mine = [board for board in boards if board.wave == wave or board.board in late]
    committed = [board for board in boards if board.state == "committed"]
    samples = _samples(committed)
    strange = frozenset(name for sample in samples.values() for name in sample.strange())
    slower, regressed = _regressions(samples, policy)
    halting = [reason for reason in (failure_reason(mine, policy), *regressed) if reason]
    waiting = _silence(mine, strange, policy)
    verdict, reasons = ("halt", halting) if halting else ("wait", waiting) if waiting else ("go", _doubts(samples))
    counts = Counter[str](board.state for board in mine)
    counts["quarantined"] = sum(board.board in strange for board in mine)
    shown = tuple(sorted((state, count) for state, count in counts.items() if count))
    return GateVerdict(wave, verdict, tuple(reasons), shown, slower, now)  # type: ignore[arg-type]


def _silence(mine: Sequence[BoardProgress], strange: frozenset[str], policy: GatePolicy) -> list[str]:
    """Why too few boards have said something."""
    taking_part = [board for board in mine if board.state != "skipped"]
    away = sum(board.state in _AWAY for board in taking_part)
    said = sum(board.state == "committed" and board.board not in strange for board in taking_part)
    failed = sum(counts_as_failed(board, policy) for board in taking_part)
    needed = min(policy.min_boards, len(taking_part) - failed)
    reasons = []
    if taking_part and away > policy.max_unreachable * len(taking_part):
        share = f"{policy.max_unreachable:.0%} may be"
        reasons.append(f"{away} of {len(taking_part)} boards are away, and {share}")
    if said < needed:
        reasons.append(f"{said} boards run the release and can be believed, and {needed} must")
    return reasons


def _doubts(samples: Mapping[str, _Sample]) -> list[str]:
    """Profiles of which too few boards were quiet for a small regression to show."""
    return [
        f"{profile or 'boards without a profile'}: {len(sample.disturbed)} of {len(sample.names)} boards were "
        f"disturbed ({', '.join(sorted(set(sample.disturbed)))}), so that only a large regression would have shown"
        for profile, sample in samples.items()
        if sample.spread > USUAL_SPREAD
    ]


@dataclass(frozen=True, eq=False)
class _Sample:
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
        return [name for name, odd in zip(self.names, self.odd, strict=True) if odd]


def _samples(committed: Iterable[BoardProgress]) -> dict[str, _Sample]:
    profiles: dict[str, list[BoardProgress]] = {}
    for board in committed:
        profiles.setdefault(board.profile, []).append(board)
    return {profile: _sample(members) for profile, members in sorted(profiles.items())}


def _sample(members: Sequence[BoardProgress]) -> _Sample:
    """Quiet boards speak for a profile; where there are too few, all do: old and new took turns on each of them, so
    that what disturbed one disturbed the other.
    """
    said = [board.before is not None and board.after is not None for board in members]
    words = [_disturbance(board) for board in members]
    enough = sum(known and not word for known, word in zip(said, words, strict=True)) >= _LEAST_QUIET
    taken = [board for board, word in zip(members, words, strict=True) if not (enough and word)]
    change = _logs([_six(board.before, board.soaked or board.after) for board in taken])
    drift = _logs([_six(board.after, board.soaked) for board in taken])
    odd = np.logical_or.reduce([outliers(column) for column in change.T])
    disturbed = [] if enough else [word for word in words if word]
    spread = DISTURBED_SPREAD if disturbed else USUAL_SPREAD
    return _Sample([board.board for board in taken], disturbed, spread, odd, change, drift)


def _disturbance(board: BoardProgress) -> str:
    figures = [one for one in (board.before, board.soaked or board.after) if one is not None]
    return ",".join(sorted({word for one in figures for word in one.disturbed.split(",") if word}))


def _six(first: HealthFigures | None, second: HealthFigures | None) -> tuple[float, ...]:
    """The figures of both, where both were measured."""
    if first is None or second is None:
        return _NOTHING
    before = first.median_ns, first.p95_ns, first.memory_bytes
    return *before, second.median_ns, second.p95_ns, second.memory_bytes


def _logs(rows: list[tuple[float, ...]]) -> Array:
    values = np.array(rows, np.float64)
    values[values <= 0] = math.nan
    logs: Array = np.log(values[:, 3:] / values[:, :3])
    return logs


def _regressions(
    samples: dict[str, _Sample], policy: GatePolicy
) -> tuple[tuple[tuple[str, float, float, float], ...], list[str]]:
    """The change of the latency by profile, and what is shown to be above its limit."""
    tests = max(1, len(samples) * len(_FIGURES))  # one gate asks all of them: C. Bonferroni, 1936
    confidence = 1 - (1 - policy.confidence) / tests
    slower, reasons = [], []
    for profile, sample in samples.items():
        change, drift = sample.change[~sample.odd], sample.drift[~sample.odd]
        for column, name in enumerate(_FIGURES):
            limit = policy.max_memory if name == "memory" else policy.max_slower
            for logs, when in ((change[:, column], "than before"), (drift[:, column], "after the soak")):
                found = change_of_logs(logs[~np.isnan(logs)], confidence, sample.spread)
                if found is not None and found.low > limit:
                    reasons.append(_worse(name, profile, found, limit, when))
                if found is not None and (column, when) == (0, "than before"):
                    slower.append((profile, found.estimate, found.low, found.high))
    return tuple(slower), reasons


def _worse(name: str, profile: str, change: Change, limit: float, when: str) -> str:
    said = f"{change.estimate:+.1%} {when} ({change.low:+.1%} to {change.high:+.1%} on {change.boards} boards)"
    return f"{profile or 'boards without a profile'}: {name} {said}, and {limit:.1%} are allowed"
