"""How a measurement is taken: durations, sample sizes and stopping rules (facts: measurement protocol §5.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """Stopping rules of one worker launch.

    Attributes:
        name: ``quick``, ``standard``, ``full``, ``sustained`` or ``paced``.
        min_seconds: Least time in the measured phase.
        min_samples: Least number of inferences; 64 supports a p90, 130 a p95, 662 a p99.
        max_seconds: Where the measured phase ends in any case; then it may be ``unstable``.
        window_seconds: Least length of a window whose median enters the stability rule.
        warmup_seconds: Least time of warm-up; it also lasts until two blocks agree within 5 %.
        max_warmup_seconds: Where warm-up ends in any case (flag ``warmup_capped``).
        cooldown_seconds: Longest wait for the temperature to fall before the start.
        evaluate: Whether the evaluation set is run on the device.
        target_fps: Arrival rate of ``paced``; 0 otherwise (back to back).
        fixed_seconds: Exact duration of ``sustained``; 0 otherwise.
    """

    name: str
    min_seconds: float
    min_samples: int
    max_seconds: float
    window_seconds: float = 1.0
    warmup_seconds: float = 1.0
    max_warmup_seconds: float = 10.0
    cooldown_seconds: float = 180.0
    evaluate: bool = True
    target_fps: float = 0.0
    fixed_seconds: float = 0.0

    def without_evaluation(self) -> Plan:
        """The same plan for a launch whose accuracy is known already."""
        return replace(self, evaluate=False)


QUICK = Plan("quick", min_seconds=1.0, min_samples=64, max_seconds=15.0, window_seconds=0.34, warmup_seconds=0.3)
STANDARD = Plan("standard", min_seconds=5.0, min_samples=130, max_seconds=60.0)
FULL = Plan("full", min_seconds=10.0, min_samples=662, max_seconds=300.0)
SUSTAINED = Plan("sustained", min_seconds=600.0, min_samples=1, max_seconds=600.0, fixed_seconds=600.0)
PACED = Plan("paced", min_seconds=10.0, min_samples=100, max_seconds=300.0, target_fps=30.0)

FINALS = {"quick": replace(QUICK, min_samples=130), "standard": STANDARD, "full": FULL}
"""The plan of the finals by effort; always deeper than the quick round, so that only finalists can win."""

ROUNDS = {"quick": 3, "standard": 12, "full": 12}
"""Launches of each finalist at most, by effort, unless the user says how many. Twelve of the shortest standard launches
take as long as the longest one may; they find 5 % where inferences differ by 10 %, which three do in three of four
cases."""

PLANS = {plan.name: plan for plan in (QUICK, STANDARD, FULL, SUSTAINED, PACED)}
