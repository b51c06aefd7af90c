"""The page of two runs side by side: one HTML document that opens without a network, with or without scripts."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.core.run_comparison import CandidateChange, RunComparison
from edgeopt.report import comparison, page
from edgeopt.report.axes import Axis, axis_for


@dataclass(frozen=True)
class Whisker:
    """A ratio with its interval on a line of 200 pixels; `one` is where nothing has changed."""

    low: float
    at: float
    high: float
    one: float


def render_comparison(found: RunComparison) -> str:
    """The page of a comparison.

    Returns:
        A whole HTML document in UTF-8 that loads nothing from anywhere.
    """
    style, script = page.style(), page.resource("templates", "sort.js")
    axis = _axis(found)
    return page.environment().get_template("comparison.html").render(
        found=found,
        words=comparison,
        whiskers=[_whisker(item, axis) for item in found.candidates],
        style=page.trusted(style),
        script=page.trusted(script),
        policy=page.policy([script], style),
    )  # fmt: skip


def _axis(found: RunComparison) -> Axis:
    ratios = [item.ratio for item in found.candidates if item.ratio and item.ratio.low > 0]
    return axis_for([1.0, *(end for ratio in ratios for end in (ratio.low, ratio.high))], may_log=True)


def _whisker(item: CandidateChange, axis: Axis) -> Whisker | None:
    if item.ratio is None or item.ratio.low <= 0:
        return None
    ends = (item.ratio.low, item.ratio.value, item.ratio.high, 1.0)
    return Whisker(*(round(axis.share(end) * 200, 1) for end in ends))
