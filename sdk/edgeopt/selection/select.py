"""The decision: which candidate wins on one device under one budget, and why each other one does not (design §6).

The winner is taken from the Pareto front of what is feasible: an imprecise measurement has a wide interval, and would
else be called a tie of something that is better in every respect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeopt.core.budget import Budget
from edgeopt.core.selection import Assessment, Candidate, Selection
from edgeopt.selection.budget import Miss, misses
from edgeopt.selection.comparison import Comparison
from edgeopt.selection.figures import Figures, baseline, figures_of
from edgeopt.selection.pareto import dominates, front
from edgeopt.selection.wording import milliseconds, points, span, times

Verdict = Literal["winner", "tie", "slower", "infeasible", "failed", "dominated"]

_CLOSEST = 3
_ORDER: tuple[Verdict, ...] = ("winner", "tie", "dominated", "slower", "infeasible", "failed")

_NOTHING_LOST = 1e-6


def select(candidates: Sequence[Candidate], budget: Budget, *, noise: float, seed: int = 0) -> Selection:
    """Choose the best candidate that was measured on a device.

    Each limit is judged at the pessimistic end of its 95 % interval; what was not measured, or gives wrong outputs, is
    infeasible. Among candidates that the noise cannot tell from the least of the objective, and that the best estimate
    puts at most 5 % behind it, the most accurate wins, then the one with less memory, then the smaller. An unstable
    measurement wins no tie. Once some feasible candidates were measured by a deeper plan (the finals), the winner is
    one of those.

    Args:
        candidates: With all their launches, in any order; the original at each of its settings among them.
        budget: Limits and objective.
        noise: Relative A/A noise of the device's timing; NaN counts as unknown.
        seed: Of the bootstrap; same input, same decision.

    Returns:
        The decision. Without a feasible candidate the winner is ``None`` and `misses` tells about the closest.

    Raises:
        UsageError: Two candidates have the same key.
    """
    figures = figures_of(candidates, budget, seed=seed)
    missed = {item.key: misses(item, budget) for item in figures}
    feasible = [item for item in figures if not missed[item.key]]
    rules = Comparison(budget.objective, noise if noise > 0 else 0.0)
    race = _Race.of(feasible, rules) if feasible else None
    assessments = _assessments(figures, missed, race)
    nearest = _nearest(figures, missed)
    return Selection(
        winner=race.winner.key if race else None,
        best_so_far=race.winner.key if race else next(iter(nearest), None),
        assessments=tuple(sorted(assessments, key=lambda item: _rank(item, rules, figures, missed))),
        budget=budget,
        noise=rules.noise,
        misses={} if race else {key: _sentence(missed[key]) for key in nearest[:_CLOSEST]},
    )


@dataclass(frozen=True)
class _Race:
    """The feasible candidates among each other.

    Attributes:
        rules: How they are compared.
        pool: Those that may win: measured by the deepest plan.
        on_front: Keys of those in the pool that nothing in the pool dominates.
        leader: Least of the objective among them (`_leader`).
        winner: What the tie-break takes out of those that are near the leader.
        all_front: Keys of the front of all feasible candidates.
    """

    rules: Comparison
    pool: tuple[Figures, ...]
    on_front: frozenset[str]
    leader: Figures
    winner: Figures
    all_front: frozenset[str]

    @classmethod
    def of(cls, feasible: Sequence[Figures], rules: Comparison) -> _Race:
        depth = max(item.depth for item in feasible)
        pool = tuple(item for item in feasible if item.depth == depth)
        on_front = _front_keys(pool, rules)
        racing = [item for item in pool if item.key in on_front]
        leader = _leader(racing, rules)
        equal = [item for item in racing if item is leader or rules.near(rules.ratio(item, leader))]
        winner = min(equal, key=lambda item: _tie_values(rules, item))
        return cls(rules, pool, on_front, leader, winner, _front_keys(feasible, rules))

    def verdict(self, item: Figures) -> tuple[Verdict, str]:
        """What became of a feasible candidate, and why."""
        if item is self.winner:
            return "winner", self._why_winner()
        rules, winner = self.rules, self.winner
        ratio = rules.ratio(item, winner)
        if rules.worse(ratio):
            return "slower", rules.loss(ratio, item, winner)
        if rules.better(ratio) and not item.stable:
            return "tie", f"looks {times(1 / ratio.value)} faster than {winner.key}, but its timing is unstable"
        if item not in self.pool:
            return (
                "tie",
                f"within noise of {winner.key} ({span(ratio)}), but only in a short measurement, not in the finals",
            )
        if item.key not in self.on_front:
            better = self._dominator(item).key
            return "dominated", f"{better} is at least as good in latency, accuracy, memory and size ({span(ratio)})"
        behind = rules.ratio(item, self.leader)
        if rules.worse(behind):
            return "slower", rules.loss(behind, item, self.leader)
        if not rules.near(behind):
            return "tie", f"may be as good as {self.leader.key}, but not by the best estimate ({span(behind)})"
        return "tie", f"within noise of {winner.key} ({span(ratio)}), which is {self._edge(winner, item)}"

    def _why_winner(self) -> str:
        rules, winner, leader = self.rules, self.winner, self.leader
        if winner is not leader:
            ratio = rules.ratio(winner, leader)
            return f"within noise of {leader.key} ({span(ratio)}), and {self._edge(winner, leader)}"
        least = {
            "latency": "fastest",
            "memory": "least memory",
            "size": "smallest file",
            "time-per-item": "most throughput",
        }[rules.objective]
        lost = winner.drop.value if winner.drop else 0.0
        loss = f", loses {points(lost)} points" if lost > _NOTHING_LOST else ""
        return f"{least} within the budget: {milliseconds(winner.latency_ns)}{loss}"

    def _edge(self, one: Figures, other: Figures) -> str:
        """The first thing in which the tie-break prefers `one`."""
        pairs = zip(self.rules.tie_break(one), self.rules.tie_break(other), strict=True)
        return next((words for (words, mine), (_, others) in pairs if mine < others), "first by name")

    def _dominator(self, item: Figures) -> Figures:
        above = [
            other
            for other in self.pool
            if other.key in self.on_front and dominates(self.rules.point(other), self.rules.point(item))
        ]
        return self.winner if self.winner in above else above[0]


def _leader(racing: Sequence[Figures], rules: Comparison) -> Figures:
    """Least of the objective; an unsteady measurement leads only where it is better than every steady one for sure."""
    steady = min([item for item in racing if item.stable] or racing, key=lambda item: _order(rules, item))
    better = [item for item in racing if not item.stable and rules.better(rules.ratio(item, steady))]
    return min(better, default=steady, key=lambda item: _order(rules, item))


def _order(rules: Comparison, item: Figures) -> tuple[object, ...]:
    return rules.value(item), _tie_values(rules, item)


def _front_keys(items: Sequence[Figures], rules: Comparison) -> frozenset[str]:
    kept = front([rules.point(item) for item in items])
    return frozenset(item.key for item, keep in zip(items, kept, strict=True) if keep)


def _tie_values(rules: Comparison, item: Figures) -> tuple[tuple[float, ...], str]:
    return tuple(value for _, value in rules.tie_break(item)), item.key


def _assessments(
    figures: Sequence[Figures], missed: Mapping[str, Sequence[Miss]], race: _Race | None
) -> list[Assessment]:
    original = baseline(figures)
    found = []
    for item in figures:
        verdict: Verdict = "failed" if item.failed else "infeasible"
        reason = _sentence(missed[item.key])
        if race and not missed[item.key]:
            verdict, reason = race.verdict(item)
        reference = original.latency if original else None
        found.append(
            Assessment(
                candidate=item.candidate,
                feasible=not missed[item.key],
                latency_ns=item.latency.interval() if item.latency else None,
                limited_latency_ns=item.limited,
                memory_bytes=item.memory_bytes,
                size_bytes=item.size_bytes,
                metric=item.accuracy.value if item.accuracy and math.isfinite(item.accuracy.value) else None,
                drop=item.drop,
                speedup=reference.over(item.latency) if reference and item.latency else None,
                pareto=race is not None and item.key in race.all_front,
                verdict=verdict,
                reason=reason,
            )
        )
    return found


def _sentence(missed: Sequence[Miss]) -> str:
    return "; ".join(miss.sentence for miss in missed)


def _excess(missed: Sequence[Miss]) -> tuple[float, float]:
    """The worst miss, then all of them."""
    return max((miss.excess for miss in missed), default=0.0), sum(miss.excess for miss in missed)


def _nearest(figures: Sequence[Figures], missed: Mapping[str, Sequence[Miss]]) -> list[str]:
    """Keys of those that work on the device, the smallest miss first."""
    working = [item for item in figures if item.working]
    ordered = sorted(working, key=lambda item: (_excess(missed[item.key]), item.latency_ns, item.key))
    return [item.key for item in ordered]


def _rank(
    assessment: Assessment, rules: Comparison, figures: Sequence[Figures], missed: Mapping[str, Sequence[Miss]]
) -> tuple[object, ...]:
    """Best first: by verdict, then the nearest miss, then the objective."""
    key = assessment.candidate.key
    item = next(item for item in figures if item.key == key)
    return _ORDER.index(assessment.verdict), _excess(missed[key]), rules.value(item), key
