"""The accuracy-latency-size picture as plain data, which the SVG (no script, print) and the chart library both draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeopt.core.recipe import BASELINE
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment, Selection
from edgeopt.report import quantities as q
from edgeopt.report import summary
from edgeopt.report.axes import Axis, axis_for
from edgeopt.report.visible import visible

_CUT = 3.0
"""How many times the interesting span a value may lie below the best before it is drawn at the edge instead."""


@dataclass(frozen=True)
class Point:
    """One measured candidate.

    Attributes:
        number: Its row in the table.
        label: Its name, safe to show.
        kind: ``winner``, ``baseline``, ``feasible`` or ``infeasible``.
        pareto: Whether it is on the Pareto front.
        x, x_low, x_high: Median latency with its interval, milliseconds.
        x_limit: The statistic that the budget limits, at the pessimistic end, or ``None``.
        y, y_low, y_high: Metric (percent for shares) with its interval.
        radius: Between 0 and 1, its square in proportion to the size of the model file.
        clamped: Whether `y` is off the axis, so that the point is drawn at the edge.
        tip: What to say about it, one line each.
    """

    number: int
    label: str
    kind: str
    pareto: bool
    x: float
    x_low: float
    x_high: float
    x_limit: float | None
    y: float
    y_low: float
    y_high: float
    radius: float
    clamped: bool
    tip: tuple[str, ...]


@dataclass(frozen=True)
class Limit:
    """A line of the budget."""

    value: float
    label: str


@dataclass(frozen=True)
class Picture:
    """Points, axes, limits and the Pareto front as (x, y) corners, fastest first."""

    points: tuple[Point, ...]
    x: Axis
    y: Axis
    x_title: str
    y_title: str
    latency: Limit | None
    floor: Limit | None
    front: tuple[tuple[float, float], ...]


def picture_of(record: RunRecord) -> Picture | None:
    """The picture of a run, or ``None`` where nothing was measured."""
    if record.selection is None:
        return None
    metric, selection = record.data.metric, record.selection
    with_metric = any(item.metric is not None for item in selection.assessments)
    numbered = [(number, item) for number, item in enumerate(selection.assessments, 1) if _drawable(item, with_metric)]
    if not numbered:
        return None
    points = [_point(number, item, record, with_metric) for number, item in numbered]
    floor = _floor(selection, metric) if with_metric else None
    y, cut = _y_axis(points, floor)
    drawn = tuple(_clamp(point, cut) for point in points)
    latency = _latency_limit(selection)
    x_values = [value for point in points for value in (point.x_low, point.x_high, point.x_limit) if value is not None]
    if latency and latency.value <= 2 * max(x_values):
        x_values.append(latency.value)
    else:
        latency = None
    y_title = f"{metric}, %" if q.is_share(metric) else metric
    return Picture(
        drawn,
        axis_for(x_values, may_log=True),
        y,
        "median latency, ms (left is faster)",
        visible(y_title, 40) if with_metric else "size of the model file, MiB",
        latency,
        floor,
        _front(drawn, higher_is_better=with_metric),
    )


def _drawable(item: Assessment, with_metric: bool) -> bool:
    """Whether it was measured, with numbers that an axis can hold."""
    latency, drop = item.latency_ns, item.drop
    if latency is None or (with_metric and item.metric is None):
        return False
    limited = [item.limited_latency_ns.high] if item.limited_latency_ns else []
    drops = [drop.value, drop.low, drop.high] if drop else []
    figures = [latency.value, latency.low, latency.high, item.metric or 0.0, *limited, *drops]
    return latency.low > 0 and all(math.isfinite(figure) for figure in figures)


def _point(number: int, item: Assessment, record: RunRecord, with_metric: bool) -> Point:
    latency, limited = item.latency_ns, item.limited_latency_ns
    assert latency is not None
    largest = max(other.size_bytes for other in record.selection.assessments) if record.selection else 1
    y, y_low, y_high = _metric(item, record.data.metric) if with_metric else (item.size_bytes / (1 << 20),) * 3
    return Point(
        number=number,
        label=visible(item.candidate.key, 60),
        kind=kind_of(item),
        pareto=item.pareto,
        x=latency.value / 1e6,
        x_low=latency.low / 1e6,
        x_high=latency.high / 1e6,
        x_limit=limited.high / 1e6 if limited else None,
        y=y,
        y_low=y_low,
        y_high=y_high,
        radius=(item.size_bytes / largest) ** 0.5 if largest else 1.0,
        clamped=False,
        tip=_tip(item, record),
    )


def _metric(item: Assessment, metric: str) -> tuple[float, float, float]:
    scale = 100.0 if q.is_share(metric) else 1.0
    value = (item.metric or 0.0) * scale
    if item.drop is None:
        return value, value, value
    worse, better = item.drop.high - item.drop.value, item.drop.value - item.drop.low
    return value, value - worse * scale, value + better * scale


def kind_of(item: Assessment) -> str:
    """How a candidate is drawn: ``winner``, ``baseline``, ``feasible`` or ``infeasible``."""
    if item.verdict == "winner":
        return "winner"
    if item.candidate.variant.name == BASELINE.name:
        return "baseline"
    return "feasible" if item.feasible else "infeasible"


def _tip(item: Assessment, record: RunRecord) -> tuple[str, ...]:
    median, metric = item.latency_ns, record.data.metric
    assert median is not None
    change = f" ({q.metric_change(metric, item.drop.value)})" if item.drop else ""
    lines = (
        f"median {q.milliseconds(median.value)} {q.error(median, 1e-6)}",
        f"{metric} {q.metric_value(metric, item.metric)}{change}",
        f"file {q.size(item.size_bytes)}, peak memory {q.size(item.memory_bytes)}",
        f"{summary.MARKS[item.verdict]}: {item.reason}",
    )
    return tuple(visible(line, 160) for line in lines)


def _floor(selection: Selection, metric: str) -> Limit | None:
    original = summary.baseline(selection)
    if selection.budget.max_drop is None or original is None or original.metric is None:
        return None
    scale, unit = (100.0, " points") if q.is_share(metric) else (1.0, "")
    value = (original.metric - selection.budget.max_drop) * scale
    return Limit(value, f"budget {q.metric_change(metric, selection.budget.max_drop)}{unit}")


def _latency_limit(selection: Selection) -> Limit | None:
    limit = selection.budget.max_latency
    return (
        Limit(limit.limit_ns / 1e6, f"budget {limit.statistic} ≤ {q.milliseconds(limit.limit_ns)}") if limit else None
    )


def _y_axis(points: Sequence[Point], floor: Limit | None) -> tuple[Axis, float]:
    """The axis of the metric, and the value below which points are drawn at its lower edge.

    One broken variant at 42 % would press all the others into one line.
    """
    top = max(point.y_high for point in points)
    wanted = [point.y_low for point in points if point.kind != "infeasible"]
    reach = max(top - min([*wanted, floor.value if floor else top]), abs(top) * 0.002)
    cut = top - _CUT * reach
    values = [value for point in points if point.y >= cut for value in (point.y_low, point.y_high)]
    values += [floor.value] if floor else []
    if any(point.y < cut for point in points):  # room for what is drawn at the edge
        values.append(min(values) - (top - min(values)) * 0.12)
    return axis_for(values), cut


def _clamp(point: Point, cut: float) -> Point:
    return replace(point, clamped=True) if point.y < cut else point


def _front(points: Sequence[Point], *, higher_is_better: bool) -> tuple[tuple[float, float], ...]:
    """Corners of the front in this plane, a staircase; `Point.pareto` counts memory and size too."""
    sign, corners = (1 if higher_is_better else -1), list[tuple[float, float]]()
    for point in sorted((p for p in points if p.pareto and not p.clamped), key=lambda p: (p.x, -sign * p.y)):
        if not corners or sign * point.y > sign * corners[-1][1]:
            corners += [(point.x, corners[-1][1])] if corners else []
            corners.append((point.x, point.y))
    return tuple(corners)
