"""Whether boards of one kind agree: the same file with the same settings has to give the same on each of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeopt.core.budget import Budget
from edgeopt.core.selection import Candidate, Interval
from edgeopt.selection.figures import Figures, figures_of
from edgeopt.selection.wording import milliseconds, points

TOLERANCE = 0.10
"""Relative difference in time that boards of one kind may show: confidence intervals further apart than this disagree.

Chips of one kind differ by a few per cent; heat, power and other clocks make more than that.
"""

_A_MAJORITY = 2
"""Of more boards than this, what is usual is the median of them all, so that a single odd one stands out."""

METRIC_TOLERANCE = 0.01
"""Difference of the metric that is a difference: a board without an instruction computes other numbers."""


@dataclass(frozen=True)
class Agreement:
    """What the comparison of a board with the others of its kind gave.

    Attributes:
        ratio: Latency here over theirs, of the candidate in which they differ most; ``None`` where none was compared.
        disagrees: In one sentence in what it differs; empty where it agrees.
    """

    ratio: Interval | None = None
    disagrees: str = ""


def agreements(boards: Mapping[str, Sequence[Candidate]], budget: Budget, *, seed: int = 0) -> dict[str, Agreement]:
    """Compare each board with the others of its kind, all of these taken together.

    Of two boards that differ, both are told, as nobody knows which is as it should be.

    Args:
        boards: The finalists as measured on each board, by its name.
        budget: As for `select`.
        seed: Of the bootstrap.
    """
    alone = {name: _figures(candidates, budget, seed) for name, candidates in boards.items()}
    found = {}
    for name in boards:
        others = [one for other, theirs in boards.items() if other != name for one in theirs]
        usual = _usual_metrics([alone[other] for other in boards if other != name or len(boards) > _A_MAJORITY])
        found[name] = _agreement(alone[name], _figures(together(others), budget, seed), usual)
    return found


def together(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Candidates of several boards, those of one key as one with the launches of all."""
    merged: dict[str, Candidate] = {}
    for one in candidates:
        known = merged.get(one.key)
        launches = (*known.measurements, *one.measurements) if known else one.measurements
        merged[one.key] = Candidate(one.variant, one.settings, launches, one.reference)
    return tuple(merged.values())


def _figures(candidates: Sequence[Candidate], budget: Budget, seed: int) -> dict[str, Figures]:
    return {item.key: item for item in figures_of(candidates, budget, seed=seed)}


def _usual_metrics(boards: Sequence[Mapping[str, Figures]]) -> dict[str, float]:
    """By key the median of what the boards have; of all launches together the lowest would count."""
    values: dict[str, list[float]] = {}
    for figures in boards:
        for key, item in figures.items():
            if item.accuracy:
                values.setdefault(key, []).append(item.accuracy.value)
    return {key: statistics.median(found) for key, found in values.items()}


def _agreement(mine: Mapping[str, Figures], others: Mapping[str, Figures], usual: Mapping[str, float]) -> Agreement:
    both = [(mine[key], others[key]) for key in mine if key in others]
    problems = [said for one, other in both if (said := _difference(one, other, usual.get(one.key)))]
    ratios = [ratio for pair in both if (ratio := _ratio(*pair))]
    return Agreement(
        ratio=max(ratios, key=lambda ratio: max(ratio.value, 1 / ratio.value), default=None),
        disagrees=problems[0] if problems else "",
    )


def _difference(mine: Figures, others: Figures, usual: float | None) -> str:
    """In what a candidate differs here from elsewhere, by more than is borne."""
    if bool(mine.problem) != bool(others.problem):
        return f"{mine.key} {mine.problem}, and not on the others" if mine.problem else ""
    one = mine.accuracy
    if one and usual is not None and abs(one.value - usual) > METRIC_TOLERANCE:
        more = "more" if one.value > usual else "less"
        return f"{mine.key} has {points(abs(one.value - usual))} points {more} of {one.metric} than on the others"
    ratio = _ratio(mine, others)
    if ratio and (ratio.low > 1 + TOLERANCE or ratio.high < 1 / (1 + TOLERANCE)):
        there = milliseconds(others.latency_ns)
        return f"{mine.key} takes {milliseconds(mine.latency_ns)}, on the others {there} ({ratio.value:.2f} times)"
    return ""


def _ratio(mine: Figures, others: Figures) -> Interval | None:
    """Time here over time there, between the ends of the two intervals that are nearest and farthest."""
    if mine.latency is None or others.latency is None or mine.problem or others.problem:
        return None
    here, there = mine.latency.interval(), others.latency.interval()
    return Interval(here.value / there.value, here.low / there.high, here.high / there.low)
