"""Charts over the order in which things were tried, placed on paper: marks, spans and the best so far, in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.report import quantities as q
from edgeopt.report.axes import Axis, axis_for, linear_ticks
from edgeopt.report.drawing import Tick
from edgeopt.report.visible import visible

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 44
MOST = 2000
"""Marks on one chart; of more only every so manyth is drawn, the staircase is of all."""


@dataclass(frozen=True)
class Entry:
    """One thing that was tried.

    Attributes:
        value: What came out, in the unit of the axis; ``None`` where nothing did.
        kind: How it is drawn: ``winner``, ``baseline``, ``feasible``, ``infeasible``, ``calm``; empty: not at all.
        tip: What to say about it.
        low: Where a span to `value` begins; ``None`` for a mark without one.
        counts: Whether it may be the best so far.
    """

    value: float | None
    kind: str
    tip: str
    low: float | None = None
    counts: bool = False


@dataclass(frozen=True)
class Dot:
    """A mark, in pixels; `failed` ones have no value and stand at the upper edge."""

    x: float
    y: float
    y_low: float
    kind: str
    tip: str
    failed: bool


@dataclass(frozen=True)
class Strip:
    """Everything that the template draws, in pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    title: str
    x_title: str
    dots: tuple[Dot, ...]
    best: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    limit_at: float | None
    limit_label: str


def strip_of(
    entries: Sequence[Entry],
    *,
    title: str,
    x_title: str,
    limit: tuple[float, str] | None = None,
    may_log: bool = False,
) -> Strip | None:
    """Place entries side by side, first to last.

    Args:
        entries: In order.
        title: Of the upright axis, with its unit.
        x_title: Of the other: what is counted.
        limit: A line across, with its label; left out where it is far from all values.
        may_log: Whether the upright axis may be logarithmic.

    Returns:
        The chart, or ``None`` where no entry has a finite value.
    """
    values = [v for entry in entries for v in (entry.value, entry.low) if v is not None and math.isfinite(v)]
    if may_log:
        values = [value for value in values if value > 0]
    if not values:
        return None
    if limit and min(values) / 3 <= limit[0] <= max(values) * 3:
        values.append(limit[0])
    else:
        limit = None
    axis = axis_for(values, may_log=may_log)
    return Strip(
        WIDTH,
        HEIGHT,
        LEFT,
        WIDTH - RIGHT,
        TOP,
        HEIGHT - BOTTOM,
        visible(title, 60),
        x_title,
        _dots(entries, axis),
        _staircase(entries, axis),
        _count_ticks(len(entries)),
        tuple(Tick(_y(axis, tick), q.tick(tick)) for tick in axis.ticks),
        _y(axis, limit[0]) if limit else None,
        visible(limit[1], 60) if limit else "",
    )


def _x(index: int, count: int) -> float:
    return round(LEFT + (index + 0.5) / count * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _dots(entries: Sequence[Entry], axis: Axis) -> tuple[Dot, ...]:
    every = math.ceil(len(entries) / MOST)
    drawn = [(index, entries[index]) for index in range(0, len(entries), every)]
    return tuple(_dot(entry, _x(index, len(entries)), axis) for index, entry in drawn if entry.kind)


def _dot(entry: Entry, x: float, axis: Axis) -> Dot:
    if entry.value is None or not math.isfinite(entry.value):
        return Dot(x, TOP, TOP, entry.kind, visible(entry.tip, 200), failed=True)
    y = _y(axis, entry.value)
    return Dot(x, y, y if entry.low is None else _y(axis, entry.low), entry.kind, visible(entry.tip, 200), failed=False)


def _staircase(entries: Sequence[Entry], axis: Axis) -> str:
    """Corners of the least value so far among the entries that count; empty where fewer than two do."""
    corners, best = list[tuple[float, float]](), math.inf
    for index, entry in enumerate(entries):
        if entry.counts and entry.value is not None and entry.value < best:
            at = _x(index, len(entries))
            corners += [(at, _y(axis, best))] if corners else []
            best = entry.value
            corners.append((at, _y(axis, best)))
    if not corners or sum(entry.counts for entry in entries) < 2:
        return ""
    corners.append((WIDTH - RIGHT, corners[-1][1]))
    return " ".join(f"{x},{y}" for x, y in corners)


def _count_ticks(count: int) -> tuple[Tick, ...]:
    whole = [int(tick) for tick in linear_ticks(0, count, 8) if tick == int(tick) and 1 <= tick <= count]
    return tuple(Tick(_x(number - 1, count), str(number)) for number in ([1, *whole] if 1 not in whole else whole))
