"""The gate after a wave: whether what its boards did and measured lets the next wave begin. Never passes on silence."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping

import numpy as np

from edgeopt.core.rollout import GatePolicy, GateVerdict
from edgeopt.fleet.evidence import Evidence, Sample
from edgeopt.fleet.regression import USUAL_SPREAD, Change, change_of_logs

_FIGURES = ("median latency", "95th percentile", "memory")


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


def failure_reason(evidence: Evidence) -> str:
    """Why a wave cannot pass any more, however its other boards end; empty while it still can."""
    bricked, policy = evidence.bricked, evidence.policy
    if bricked:
        return f"no release is healthy on {', '.join(bricked[:5])}: one such board is too many"
    kinds = evidence.failures
    failed, of = kinds.total(), evidence.taking_part - evidence.states["unreachable"]
    if failed <= failures_allowed(of, policy):
        return ""
    said = ", ".join(f"{kind} {kinds[kind]}" for kind in sorted(kinds, key=lambda kind: (-kinds[kind], kind)))
    bound = wilson_upper(failed, of, policy.confidence)
    most = f"so up to {bound:.1%} of such boards may, and {policy.max_failures:.1%} are allowed"
    return f"{failed} of {of} boards failed ({said}): {most}"


def judge(wave: int, evidence: Evidence, now: float) -> GateVerdict:
    """Judge a wave.

    Failures, absence and the least sample are of the boards that count, regressions of all that run the release so
    far, since it is the same one. Boards that were skipped are no failures; boards whose figures do not belong to those
    of their profile are in quarantine: they neither carry the gate nor stop it.

    Args:
        wave: Its number.
        evidence: What the boards of this wave and of those before it say; the wave's count, and with them boards of
            earlier waves that were away when those were judged.
        now: Seconds since the epoch.
    """
    samples = evidence.samples()
    strange = evidence.counted(name for sample in samples.values() for name in sample.strange())
    slower, regressed = _regressions(samples, evidence.policy)
    halting = [reason for reason in (failure_reason(evidence), *regressed) if reason]
    waiting = _silence(evidence, strange)
    verdict, reasons = ("halt", halting) if halting else ("wait", waiting) if waiting else ("go", _doubts(samples))
    counts = evidence.states + Counter(quarantined=strange)
    return GateVerdict(wave, verdict, tuple(reasons), tuple(sorted(counts.items())), slower, now)  # type: ignore[arg-type]


def _silence(evidence: Evidence, strange: int) -> list[str]:
    """Why too few boards have said something."""
    policy, taking_part, away = evidence.policy, evidence.taking_part, evidence.away
    said = evidence.states["committed"] - strange
    needed = min(policy.min_boards, taking_part - evidence.failures.total())
    reasons = []
    if taking_part and away > policy.max_unreachable * taking_part:
        share = f"{policy.max_unreachable:.0%} may be"
        reasons.append(f"{away} of {taking_part} boards are away, and {share}")
    if said < needed:
        reasons.append(f"{said} boards run the release and can be believed, and {needed} must")
    return reasons


def _doubts(samples: Mapping[str, Sample]) -> list[str]:
    """Profiles of which too few boards were quiet for a small regression to show."""
    return [
        f"{profile or 'boards without a profile'}: {len(sample.disturbed)} of {len(sample.names)} boards were "
        f"disturbed ({', '.join(sorted(set(sample.disturbed)))}), so that only a large regression would have shown"
        for profile, sample in samples.items()
        if sample.spread > USUAL_SPREAD
    ]


def _regressions(
    samples: Mapping[str, Sample], policy: GatePolicy
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
