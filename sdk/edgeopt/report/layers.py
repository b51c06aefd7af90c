"""Layers as rows with bars: which ones lose most when quantised, and which ones take the time."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.core.layers import LayerFigures
from edgeopt.core.run import RunRecord
from edgeopt.report import quantities as q
from edgeopt.report.summary import chosen

MOST = 60
"""Rows on a page."""


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name: As in the network's file.
        kept: Whether the chosen variant keeps it in float.
        share, time: Text; a dash where it is not known.
        share_bar, time_bar: Length of the bar, 0 to 1 of the largest.
    """

    name: str
    kept: bool
    share: str
    time: str
    share_bar: float
    time_bar: float


def rows_of(record: RunRecord) -> tuple[Row, ...]:
    """Layers by falling sensitivity, then by falling time; the first `MOST`."""
    ordered = sorted(record.layers, key=lambda one: (-(one.share or 0.0), -(one.milliseconds or 0.0), one.name))
    best = chosen(record)
    kept = frozenset(best.candidate.variant.kept_float if best else ())
    largest = max((one.share or 0.0 for one in ordered), default=0.0)
    slowest = max((one.milliseconds or 0.0 for one in ordered), default=0.0)
    return tuple(_row(one, one.name in kept, largest, slowest) for one in ordered[:MOST])


def _row(one: LayerFigures, kept: bool, largest: float, slowest: float) -> Row:
    share = q.NONE if one.share is None else f"{one.share * 100:.1f} %"
    time = q.NONE if one.milliseconds is None else q.milliseconds(one.milliseconds * 1e6)
    return Row(one.name, kept, share, time, _bar(one.share, largest), _bar(one.milliseconds, slowest))


def _bar(value: float | None, largest: float) -> float:
    return round(value / largest, 3) if value and largest else 0.0


def caption(record: RunRecord) -> str:
    """What the columns say and how many layers there are; one or two sentences."""
    ranked = sum(one.share is not None for one in record.layers)
    timed = sum(one.milliseconds is not None for one in record.layers)
    said = []
    if ranked:
        said.append(f"Sensitivity: share of the outputs' error when only that layer is quantised ({ranked} layers).")
    if timed:
        said.append(f"Time: of the layer alone, in float, on this device ({timed} layers).")
    if len(record.layers) > MOST:
        said.append(f"The first {MOST} are shown.")
    return " ".join(said)
