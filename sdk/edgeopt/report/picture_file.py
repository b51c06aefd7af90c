"""The picture of a run alone, as an SVG that any viewer draws; `picture_png` draws the same sheet as pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeopt.core.run import RunRecord
from edgeopt.report import page, summary
from edgeopt.report.drawing import LEFT, Drawing, drawing_of
from edgeopt.report.picture import Picture, picture_of
from edgeopt.report.visible import visible

HEAD = 92
"""Pixels above the drawing, for the title and the legend."""

_LABELS = (
    ("winner", "winner", 80),
    ("baseline", "original", 88),
    ("feasible", "meets the budget", 140),
    ("infeasible", "does not", 90),
    ("front", "Pareto front", 112),
    ("limit", "budget", 0),
)
_EXTRA = (
    "svg .heading { font-size: 17px; font-weight: 700; } svg .subject { fill: var(--muted); }"
    " svg .mark .legend { font-weight: 400; fill: var(--muted); stroke: none; }"
)


@dataclass(frozen=True)
class LegendItem:
    """A sign with its meaning, at `x` pixels."""

    kind: str
    label: str
    x: int


@dataclass(frozen=True)
class Sheet:
    """A picture with everything around it.

    Attributes:
        title: The answer in one sentence.
        subject: What was measured where.
        legend: The signs, left to right.
        picture: The figures.
        drawing: Their places.
    """

    title: str
    subject: str
    legend: tuple[LegendItem, ...]
    picture: Picture
    drawing: Drawing


def sheet_of(record: RunRecord) -> Sheet | None:
    """The sheet of a run, with the very numbers of its page; ``None`` where nothing was measured."""
    picture = picture_of(record)
    if picture is None:
        return None
    board = record.facts.model or record.facts.cpu
    subject = f"{record.model.name} on {record.device.name}{f', {board}' if board else ''}; run {record.run_id}"
    return Sheet(
        visible(summary.headline(record), 110), visible(subject, 120), _legend(picture), picture, drawing_of(picture)
    )


def _legend(picture: Picture) -> tuple[LegendItem, ...]:
    """What occurs in the picture."""
    kinds = {point.kind for point in picture.points}
    kinds |= {"front"} if len(picture.front) > 1 else set()
    kinds |= {"limit"} if picture.latency or picture.floor else set()
    items, x = [], LEFT + 8
    for kind, label, width in _LABELS:
        if kind in kinds:
            items.append(LegendItem(kind, label, x))
            x += width
    return tuple(items)


def render_svg(sheet: Sheet) -> str:
    """The sheet as an SVG document in UTF-8, on white; it loads nothing."""
    colours = page.palette()
    style = re.sub(
        r"var\(--([a-z-]+)\)", lambda found: colours[found.group(1)], page.resource("templates", "picture.css") + _EXTRA
    )
    return page.environment().get_template("picture.svg").render(
        title=sheet.title,
        subject=sheet.subject,
        legend=sheet.legend,
        picture=sheet.picture,
        drawing=sheet.drawing,
        head=HEAD,
        background=colours["card"],
        style=page.trusted(style),
    )  # fmt: skip
