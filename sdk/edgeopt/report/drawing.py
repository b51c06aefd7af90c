"""The picture placed on paper: coordinates of every mark and label of the static SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.report import quantities as q
from edgeopt.report.picture import Picture, Point

WIDTH, HEIGHT = 960, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 24, 52
_RADIUS_MIN, _RADIUS_MAX = 5.0, 15.0
_CHARACTER, _LINE = 7.8, 14.0


@dataclass(frozen=True)
class Mark:
    """One point with its whiskers and its label, in pixels of the drawing."""

    point: Point
    x: float
    y: float
    radius: float
    x_low: float
    x_high: float
    x_limit: float | None
    y_low: float
    y_high: float
    label: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """Everything that the template draws, in pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    front: str
    latency_at: float | None
    floor_at: float | None


def drawing_of(picture: Picture) -> Drawing:
    """Place a picture on a sheet of `WIDTH` by `HEIGHT` pixels."""
    return Drawing(
        WIDTH,
        HEIGHT,
        LEFT,
        WIDTH - RIGHT,
        TOP,
        HEIGHT - BOTTOM,
        _marks(picture),
        tuple(Tick(_x(picture, tick), q.tick(tick)) for tick in picture.x.ticks),
        tuple(Tick(_y(picture, tick), q.tick(tick)) for tick in picture.y.ticks),
        " ".join(f"{_x(picture, x):.1f},{_y(picture, y):.1f}" for x, y in picture.front),
        _x(picture, picture.latency.value) if picture.latency else None,
        _y(picture, picture.floor.value) if picture.floor else None,
    )


def _x(picture: Picture, value: float) -> float:
    return round(LEFT + picture.x.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(picture: Picture, value: float) -> float:
    return round(HEIGHT - BOTTOM - picture.y.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _marks(picture: Picture) -> tuple[Mark, ...]:
    """Marks with labels that do not cover one another, the important ones placed first."""
    order = {"winner": 0, "baseline": 1, "feasible": 2, "infeasible": 3}
    taken = [_bounds(picture, point) for point in picture.points]
    made = []
    for point in sorted(picture.points, key=lambda point: (order[point.kind], point.number)):
        label = str(point.number) if point.kind in ("feasible", "infeasible") else f"{point.number} {point.label}"
        label = f"{label} ▼ {q.significant(point.y)}" if point.clamped else label
        made.append(_mark(picture, point, label, taken))
    return tuple(made)


def _radius(point: Point) -> float:
    return round(_RADIUS_MIN + (_RADIUS_MAX - _RADIUS_MIN) * point.radius, 1)


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _bounds(picture: Picture, point: Point) -> Box:
    x, y, radius = _x(picture, point.x), _y(picture, point.y), _radius(point) * 0.8
    return x - radius, y - radius, x + radius, y + radius


def _mark(picture: Picture, point: Point, label: str, taken: list[Box]) -> Mark:
    x, y, radius = _x(picture, point.x), _y(picture, point.y), _radius(point)
    wide = len(label) * _CHARACTER
    spots = (
        (x + radius + 4, y - 6, "start"),
        (x + radius + 4, y + 14, "start"),
        (x - radius - 4, y - 6, "end"),
        (x - radius - 4, y + 14, "end"),
        (x, y - radius - 6, "middle"),
        (x, y + radius + 14, "middle"),
    )
    boxes = [_label_box(spot, wide) for spot in spots]
    best = min(range(len(spots)), key=lambda index: _crowding(boxes[index], taken))
    taken.append(boxes[best])
    label_x, label_y, anchor = spots[best]
    limit = _x(picture, point.x_limit) if point.x_limit is not None else None
    ends = (
        _x(picture, point.x_low),
        _x(picture, point.x_high),
        limit,
        _y(picture, point.y_low),
        _y(picture, point.y_high),
    )
    return Mark(point, x, y, radius, *ends, label, round(label_x, 1), round(label_y, 1), anchor)


def _label_box(spot: tuple[float, float, str], wide: float) -> Box:
    x, y, anchor = spot
    left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
    return left, y - _LINE + 3, left + wide, y + 3


def _crowding(box: Box, taken: Sequence[Box]) -> float:
    """Area shared with what is there already, plus what hangs over the edge of the sheet."""
    outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - WIDTH) + max(0.0, TOP - box[1]) + max(0.0, box[3] - HEIGHT)
    shared = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
    return shared + outside * 50
