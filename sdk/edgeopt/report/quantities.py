"""Numbers as people read them: three significant digits, a unit, and the sign of a change."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeopt.core.selection import Interval

NONE = "–"
MINUS = "\N{MINUS SIGN}"
_SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and no exponent; NaN and infinities by name."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: f"{MINUS}∞"}.get(value, "NaN")
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 9)}f}".replace("-", MINUS)


def milliseconds(value_ns: float | None) -> str:
    """Nanoseconds as ``4.21 ms``; a dash for ``None``."""
    return NONE if value_ns is None else f"{significant(value_ns / 1e6)} ms"


def error(interval: Interval, scale: float = 1.0) -> str:
    """The wider half of an interval as ``±0.05``, with the decimals of its value; empty where there is no width."""
    half = max(interval.high - interval.value, interval.value - interval.low) * scale
    if not half > 0 or not math.isfinite(half):
        return ""
    places = len(significant(interval.value * scale).partition(".")[2])
    return f"±{half:.{places}f}" if round(half, places) > 0 else f"±{significant(half, 1)}"


def size_unit(sizes_bytes: Iterable[int | None]) -> tuple[str, int]:
    """The unit in which the largest of the sizes is at least 1, and its length in bytes."""
    largest = max((size for size in sizes_bytes if size is not None), default=0)
    return next(((name, unit) for name, unit in _SIZES if largest >= unit), _SIZES[-1])


def size(value_bytes: float | None) -> str:
    """Bytes as ``78.2 MiB``; a dash for ``None``."""
    if value_bytes is None:
        return NONE
    name, unit = size_unit([int(value_bytes)])
    return f"{significant(value_bytes / unit)} {name}"


def ratio(value: float) -> str:
    """A factor as ``3.12×`` or ``0.66×``."""
    return f"{significant(value, 2 if abs(value) < 1 else 3)}×"


def is_share(metric: str) -> bool:
    """Whether a metric is a share of right answers, so that percents and points are its language."""
    return metric in {"top1", "accuracy"}


def metric_value(metric: str, value: float | None) -> str:
    """A metric's value: ``97.4 %`` for shares, four digits for others; a dash for ``None``."""
    if value is None:
        return NONE
    if is_share(metric):
        return f"{value * 100:.1f} %"
    return f"{value:.4f}".replace("-", MINUS) if abs(value) < 10 else significant(value, 4)


def metric_change(metric: str, drop: float | None) -> str:
    """The change against the baseline (``-drop``), signed: ``−0.3`` points for shares, ``−0.0012`` for others."""
    if drop is None:
        return NONE
    change = -drop * 100 if is_share(metric) else -drop
    text = f"{abs(change):.1f}" if is_share(metric) else f"{abs(change):.4f}"
    if float(text) == 0:
        return "±0"
    return f"{MINUS if change < 0 else '+'}{text}"


def metric_error(metric: str, drop: Interval) -> str:
    """The wider half of a drop's interval, with the decimals of `metric_change`; empty where there is no width."""
    half = max(drop.high - drop.value, drop.value - drop.low)
    text = f"{half * 100:.1f}" if is_share(metric) else f"{half:.4f}"
    return f"±{text}" if half > 0 else ""


def loss(metric: str, drop: float) -> str:
    """A loss of the metric in words: ``0.3 points of top1``."""
    if is_share(metric):
        return f"{abs(drop) * 100:.1f} points of {metric}"
    return f"{abs(drop):.4f} of {metric}"


def moment(seconds: float) -> str:
    """Seconds since the epoch as ``2026-03-01 14:05``, in UTC; a dash for 0 and for what no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) if seconds > 0 else NONE
    except (OverflowError, ValueError, OSError):
        return NONE


def clock(seconds: float) -> str:
    """The time of day of seconds since the epoch as ``14:05:09``, in UTC; a dash for what no calendar has."""
    try:
        return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds > 0 else NONE
    except (OverflowError, ValueError, OSError):
        return NONE


def duration(seconds: float) -> str:
    """A duration as ``8.4 s``, ``3 min 20 s`` or ``2 h 5 min``; a dash for what is not positive."""
    if not seconds > 0:
        return NONE
    if seconds < 60:
        return f"{significant(seconds, 2)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def tick(value: float) -> str:
    """A round number of an axis, without trailing zeros."""
    return f"{value:.10g}".replace("-", MINUS)
