"""Draws the sheet of a run as pixels, with Matplotlib as the canvas.

The places are those of the SVG, so that both show the same. A renderer of SVG would be less code here, but depends on
the fonts of the machine: on a server without any, it draws no numbers at all; Matplotlib brings its own.
"""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from typing import Any

from edgeopt.errors import UsageError
from edgeopt.report import page
from edgeopt.report.drawing import Mark
from edgeopt.report.picture_file import HEAD, LegendItem, Sheet

DOTS_PER_INCH = 200
"""1920 by about 1060 pixels: sharp on a slide."""

_SHEET_DPI = 100.0
_POINT = 72 / _SHEET_DPI
"""Matplotlib's points in a pixel of the sheet."""


def require_matplotlib() -> None:
    """Refuse before any work where it is not installed.

    Raises:
        UsageError: It is not.
    """
    if find_spec("matplotlib") is None:
        raise UsageError(
            "--png needs Matplotlib, which is not installed.",
            remedy="Install it: pip install 'edgeopt[picture]'; --svg FILE needs nothing.",
        )


def render_png(sheet: Sheet) -> bytes:
    """The sheet as a PNG, on white.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = sheet.drawing.width, sheet.drawing.height + HEAD
    figure = Figure(figsize=(width / _SHEET_DPI, height / _SHEET_DPI), dpi=DOTS_PER_INCH, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(sheet.drawing.height, -HEAD))
    axes.set_axis_off()
    _Canvas(axes, page.palette()).draw(sheet)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in a script that its fonts lack is drawn as boxes
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": "edgeopt"})
    return stream.getvalue()


class _Canvas:
    """Marks and words on axes whose units are the pixels of the sheet."""

    def __init__(self, axes: Any, colours: dict[str, str]) -> None:
        self._axes, self._colours = axes, colours

    def draw(self, sheet: Sheet) -> None:
        """Everything, from the back to the front."""
        self._axis(sheet)
        self._limits(sheet)
        if len(sheet.picture.front) > 1:
            corners = [corner.split(",") for corner in sheet.drawing.front.split()]
            self._line([float(x) for x, _ in corners], [float(y) for _, y in corners], "winner", 2, alpha=0.45)
        for mark in sheet.drawing.marks:
            self._mark(mark)
        self._text(sheet.drawing.left, 26 - HEAD, sheet.title, size=17, weight="bold")
        self._text(sheet.drawing.left, 46 - HEAD, sheet.subject, colour="muted")
        for item in sheet.legend:
            self._legend(item, 66 - HEAD)

    def _axis(self, sheet: Sheet) -> None:
        d = sheet.drawing
        for tick in d.x_ticks:
            self._line((tick.at, tick.at), (d.top, d.bottom), "line", 1)
            self._text(tick.at, d.bottom + 18, tick.label, "center", colour="muted")
        for tick in d.y_ticks:
            self._line((d.left, d.right), (tick.at, tick.at), "line", 1)
            self._text(d.left - 8, tick.at + 4, tick.label, "right", colour="muted")
        self._text(d.right, d.height - 10, sheet.picture.x_title, "right", colour="muted")
        self._text(d.left, d.top - 9, sheet.picture.y_title, colour="muted")

    def _limits(self, sheet: Sheet) -> None:
        d, latency, floor = sheet.drawing, sheet.picture.latency, sheet.picture.floor
        if d.latency_at is not None and latency is not None:
            self._line((d.latency_at, d.latency_at), (d.top, d.bottom), "limit", 1.5, dashes=(0, (4, 2.7)))
            self._text(d.latency_at, d.top - 8, latency.label, "center", colour="limit")
        if d.floor_at is not None and floor is not None:
            self._line((d.left, d.right), (d.floor_at, d.floor_at), "limit", 1.5, dashes=(0, (4, 2.7)))
            self._text(d.right - 4, d.floor_at + 15, floor.label, "right", colour="limit")

    def _mark(self, mark: Mark) -> None:
        kind = mark.point.kind
        if mark.x_limit is not None:
            self._line((mark.x, mark.x_limit), (mark.y, mark.y), kind, 1, alpha=0.7)
        self._line((mark.x_low, mark.x_high), (mark.y, mark.y), kind, 3)
        if not mark.point.clamped:
            self._line((mark.x, mark.x), (mark.y_low, mark.y_high), kind, 3)
        self._sign(kind, mark.x, mark.y, mark.radius)
        side = {"start": "left", "end": "right", "middle": "center"}[mark.anchor]
        weight = "bold" if kind == "winner" else "normal"
        self._text(mark.label_x, mark.label_y, mark.label, side, weight=weight)

    def _sign(self, kind: str, x: float, y: float, radius: float) -> None:
        from matplotlib.colors import to_rgba

        shape = {"baseline": "D", "infeasible": "x"}.get(kind, "o")
        across = radius * {"D": 1.414, "x": 1.4}.get(shape, 2.0)  # the side of the square, of the cross, the diameter
        colour = self._colours[kind]
        opacity = 0.9 if kind == "winner" else 0.55
        self._axes.plot(
            [x], [y], marker=shape, markersize=across * _POINT, color=colour, markeredgecolor=colour,
            markerfacecolor=to_rgba(colour, opacity), markeredgewidth=(2.5 if shape == "x" else 1.5) * _POINT,
        )  # fmt: skip

    def _legend(self, item: LegendItem, y: float) -> None:
        if item.kind in ("front", "limit"):
            colour, dashes = ("winner", "solid") if item.kind == "front" else ("limit", (0, (4, 2.7)))
            self._line((item.x - 9, item.x + 9), (y, y), colour, 2, dashes=dashes)
        else:
            self._sign(item.kind, item.x, y, 6)
        self._text(item.x + 14, y + 4, item.label, colour="muted")

    def _line(self, xs: Any, ys: Any, colour: str, width: float, *, dashes: Any = "solid", alpha: float = 1.0) -> None:
        style = {"color": self._colours[colour], "linewidth": width * _POINT, "linestyle": dashes, "alpha": alpha}
        self._axes.plot(xs, ys, solid_capstyle="butt", **style)

    def _text(
        self, x: float, y: float, text: str, side: str = "left", *, size: float = 12, weight: str = "normal",
        colour: str = "text",
    ) -> None:  # fmt: skip
        self._axes.text(
            x, y, text, ha=side, va="baseline", fontsize=size * _POINT, weight=weight, color=self._colours[colour],
            parse_math=False,
        )  # fmt: skip
