"""Two runs side by side in words: what the terminal and the page both say."""

from __future__ import annotations

from edgeopt.core.run_comparison import CandidateChange, FigureChange, RunComparison
from edgeopt.core.selection import Interval
from edgeopt.report import quantities as q

MARKS = {"better": "▲ better", "worse": "▼ worse", "same": "= same", "unknown": "? not known"}
"""What a change is called: a sign and a word, so that colour is never the only signal."""

TITLES = {"latency": "median latency", "memory": "peak memory", "size": "model file"}


def headline(found: RunComparison) -> str:
    """What became of the winner, in one sentence."""
    old, new = found.winner_before, found.winner_after
    if old is None and new is None:
        return "Neither run met its budget."
    if old is None:
        return f"{new} meets the budget; nothing did before."
    if new is None:
        return f"Nothing meets the budget any more; {old} did."
    kept = f"{new} won again" if old == new else f"{new} won instead of {old}"
    latency = next((item for item in found.figures if item.name == "latency"), None)
    return f"{kept}: {_faster(latency)}." if latency else f"{kept}."


def _faster(latency: FigureChange) -> str:
    """The later winner's speed against the earlier one's."""
    if latency.ratio is None:
        return "the latencies are not both known"
    if latency.change == "same":
        return "as fast, within the noise"
    speed = 1 / latency.ratio.value
    return f"{q.ratio(speed)} the speed" if latency.change == "worse" else f"{q.ratio(speed)} faster"


def title(item: FigureChange, metric: str) -> str:
    """Name of a figure."""
    return TITLES.get(item.name, metric)


def value(item: FigureChange, which: str, metric: str) -> str:
    """The figure ``before`` or ``after``, with its unit."""
    number: float | None = getattr(item, which)
    if item.name == "latency":
        return q.milliseconds(number)
    return q.metric_value(metric, number) if item.name == "metric" else q.size(number)


def change(item: FigureChange, metric: str) -> str:
    """The ratio, or for the metric the gain, with its interval."""
    if item.ratio is None:
        return q.NONE
    return span(item.ratio) if item.name != "metric" else _gain(item.ratio, metric)


def _gain(gain: Interval, metric: str) -> str:
    unit = " points" if q.is_share(metric) else ""
    text = f"{q.metric_change(metric, -gain.value)}{unit}"
    if gain.low == gain.high:
        return text
    return f"{text} ({q.metric_change(metric, -gain.low)} to {q.metric_change(metric, -gain.high)})"


def span(ratio: Interval) -> str:
    """``0.52× (0.50 to 0.55)``; without the bracket where there is no width."""
    text = f"{q.significant(ratio.value)}×"
    if ratio.low == ratio.high:
        return text
    return f"{text} ({q.significant(ratio.low)} to {q.significant(ratio.high)})"


def fate(item: CandidateChange) -> str:
    """What became of a candidate in both runs."""
    if item.verdict_before == item.verdict_after:
        return item.verdict_after
    return f"{item.verdict_before} → {item.verdict_after}"
