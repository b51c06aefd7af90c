"""The budget, each limit judged at the pessimistic end of its interval; what was not measured is missed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgeopt.core.budget import Budget
from edgeopt.selection.figures import Figures
from edgeopt.selection.statistics import MIN_SAMPLES
from edgeopt.selection.wording import mebibytes, milliseconds, points

_POINT = 0.01


@dataclass(frozen=True)
class Miss:
    """A limit that a candidate does not meet.

    Attributes:
        excess: By how much, relative to the limit; infinite where nothing was measured.
        sentence: The same for people.
        soft: Whether more launches could still turn it: the optimistic end meets the limit.
    """

    excess: float
    sentence: str
    soft: bool = False


def misses(figures: Figures, budget: Budget) -> tuple[Miss, ...]:
    """Every reason for which a candidate is not feasible; empty when it is."""
    if figures.problem:
        return (Miss(math.inf, figures.problem),)
    found = (_drop(figures, budget), _latency(figures, budget), *_space(figures, budget))
    return tuple(miss for miss in found if miss)


def _drop(figures: Figures, budget: Budget) -> Miss | None:
    limit, drop, accuracy = budget.max_drop, figures.drop, figures.accuracy
    if limit is None:
        return None
    if drop is None or accuracy is None:
        return Miss(math.inf, figures.no_drop)
    if drop.high <= limit:
        return None
    excess, what = (drop.high - limit) / max(limit, _POINT), f"points of {accuracy.metric}"
    if drop.value > limit:
        return Miss(excess, f"loses {points(drop.value)} {what}, budget {points(limit)}")
    told = f"measured {points(drop.value)} on {accuracy.samples} samples, 95 % confidence"
    return Miss(
        excess, f"may lose {points(drop.high)} {what} ({told}), budget {points(limit)}: more samples would tell"
    )


def _latency(figures: Figures, budget: Budget) -> Miss | None:
    limit, limited = budget.max_latency, figures.limited
    if limit is None:
        return None
    if limited is None:
        least = MIN_SAMPLES.get(limit.statistic, 1)
        told = f"{limit.statistic} cannot be told from {figures.samples} samples, {least} are needed"
        return Miss(math.inf, f"{told}: measure with a longer plan", soft=True)
    if limited.high <= limit.limit_ns:
        return None
    excess, soft = limited.high / limit.limit_ns - 1, limited.low <= limit.limit_ns
    told = milliseconds(limited.value)
    if limited.value <= limit.limit_ns:
        told += f" (up to {milliseconds(limited.high)} at 95 % confidence)"
    over = f"budget {milliseconds(limit.limit_ns)} (over by {100 * excess:.1f} %)"
    return Miss(excess, f"{limit.statistic} latency of {told}, {over}", soft)


def _space(figures: Figures, budget: Budget) -> Iterator[Miss]:
    memory = figures.memory_bytes
    if memory is None:
        if budget.max_memory_bytes is not None or budget.objective == "memory":
            yield Miss(math.inf, "its memory was not measured on the device")
    elif budget.max_memory_bytes is not None and memory > budget.max_memory_bytes:
        yield _too_large(memory, budget.max_memory_bytes, "of memory")
    if budget.objective == "time-per-item" and figures.item_ns is None:
        yield Miss(math.inf, "its throughput was not measured on the device")
    if budget.max_size_bytes is not None and figures.size_bytes > budget.max_size_bytes:
        yield _too_large(figures.size_bytes, budget.max_size_bytes, "on disk")


def _too_large(value_bytes: int, limit_bytes: int, where: str) -> Miss:
    excess = value_bytes / limit_bytes - 1 if limit_bytes > 0 else math.inf
    over = f"over by {mebibytes(value_bytes - limit_bytes)}"
    return Miss(excess, f"takes {mebibytes(value_bytes)} {where}, budget {mebibytes(limit_bytes)} ({over})")
