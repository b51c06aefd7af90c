"""What is measured next: finalists after the quick round, the order of the finals, and what spoils them."""

from __future__ import annotations

from collections.abc import Sequence

from edgeopt.core.budget import Budget
from edgeopt.core.selection import Candidate
from edgeopt.selection.budget import misses
from edgeopt.selection.comparison import Comparison
from edgeopt.selection.figures import Figures, baseline, figures_of
from edgeopt.selection.racing import alike, losers, round_values

_LEAST_NOISE = 0.01


def finalists(
    candidates: Sequence[Candidate], budget: Budget, noise: float, *, limit: int = 3, seed: int = 0
) -> tuple[str, ...]:
    """Keys of the candidates that may still win, the best first, for a deeper measurement.

    Out are those that failed, that miss a limit which more launches cannot turn (drop, memory, size, or a latency
    beyond it even at the optimistic end), and those certainly worse than the best that is sure to be feasible.
    Between launches there is noise that a single launch does not show, so "certainly" takes twice the usual margin.
    The best sure one and the original at its best settings are always in.

    Args:
        candidates: With what is known of them.
        budget: As for `select`.
        noise: Relative A/A noise of the device.
        limit: Most that are returned, at least 2; more when those that must be in are more.
        seed: Of the bootstrap.

    Raises:
        UsageError: Two candidates have the same key.
    """
    figures = figures_of(candidates, budget, seed=seed)
    rules = Comparison(budget.objective, noise if noise > 0 else 0.0)
    hopeful = [item for item in figures if all(miss.soft for miss in misses(item, budget))]
    hopeful.sort(key=lambda item: (rules.value(item), item.key))
    sure = next((item for item in hopeful if not misses(item, budget)), None)
    if sure:
        hopeful = [item for item in hopeful if rules.ratio(item, sure).low <= 1 + 2 * rules.delta]
    must = [item for item in (sure, baseline(figures)) if item and not item.problem]
    chosen = _first(hopeful, must, limit)
    return tuple(item.key for item in sorted(chosen, key=lambda item: (rules.value(item), item.key)))


def _first(ordered: Sequence[Figures], must: Sequence[Figures], limit: int) -> list[Figures]:
    """Those that must be in, filled up with the first of the others."""
    chosen = {item.key: item for item in must}
    for item in ordered:
        if len(chosen) < limit:
            chosen.setdefault(item.key, item)
    return list(chosen.values())


def survivors(count: int) -> int:
    """How many of so many candidates are measured a second time, before the finals: the best third, at least three.

    Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016 (successive
    halving), with a factor of 3 as in Li et al.: Hyperband, 2018, §3.
    """
    return max(3, -(-count // 3))


def racing(candidates: Sequence[Candidate], budget: Budget, *, seed: int = 0) -> tuple[str, ...]:
    """Keys of the finalists that may still win after some rounds, in their order.

    Args:
        candidates: Finalists with their launches of the finals, in the order of the rounds.
        budget: As for `select`.
        seed: Of the bootstrap.
    """
    rounds = {item.key: round_values(item.measurements, budget.objective) for item in candidates}
    if not losers(rounds, rounds):  # working out who is sure costs far more
        return tuple(rounds)
    sure = [item.key for item in figures_of(candidates, budget, seed=seed) if not misses(item, budget)]
    gone = losers(rounds, sure)
    return tuple(key for key in rounds if key not in gone)


def settled(candidates: Sequence[Candidate], budget: Budget) -> bool:
    """Whether more rounds cannot tell finalists apart: no two differ by what makes a difference.

    Args:
        candidates: Those that may still win, with their launches of the finals in the order of the rounds.
        budget: As for `select`; where it limits the latency, more rounds still narrow what is held against the limit.
    """
    rounds = {item.key: round_values(item.measurements, budget.objective) for item in candidates}
    return len(rounds) > 1 and budget.max_latency is None and alike(rounds)


def turn(keys: Sequence[str], number: int) -> tuple[str, ...]:
    """The order of launches in a round: A B C, then C B A, A B C, ..., so that a slow drift hits all alike.

    Args:
        keys: Candidates.
        number: Of the round, 0 for the first.
    """
    return tuple(keys if number % 2 == 0 else keys[::-1])


def drift(baseline_before: float, baseline_after: float, noise: float) -> bool:
    """Whether the device changed while a block was measured, so that the block has to be measured again.

    Args:
        baseline_before: Median latency of the baseline before the block, nanoseconds, above 0.
        baseline_after: The same after it.
        noise: Relative A/A noise of the device; at least 1 % is assumed.
    """
    smaller, larger = sorted((baseline_before, baseline_after))
    return larger / smaller - 1 > 2 * max(_LEAST_NOISE, noise)
