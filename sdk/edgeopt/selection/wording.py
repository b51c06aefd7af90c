"""Numbers as people read them, for the reasons that candidates win and lose."""

from __future__ import annotations

import math

from edgeopt.core.selection import Interval


def milliseconds(value_ns: float) -> str:
    """``3.12 ms``, ``0.0123 ms``, ``1250 ms``."""
    return f"{_rounded(value_ns / 1e6)} ms"


def mebibytes(value_bytes: float) -> str:
    """``12.3 MiB``."""
    return f"{_rounded(value_bytes / (1 << 20))} MiB"


def points(value: float) -> str:
    """A difference of a metric in hundredths: 0.148 is ``14.8``."""
    return _rounded(100 * value)


def times(ratio: float) -> str:
    """A ratio above 1: ``1.8x``, or ``4.2 %`` where it is small."""
    return f"{100 * (ratio - 1):.1f} %" if ratio < 1.1 else f"{ratio:.1f}x"


def span(ratio: Interval) -> str:
    """The interval of a ratio: ``ratio 0.99 to 1.02``."""
    return f"ratio {ratio.low:.2f} to {ratio.high:.2f}"


def _rounded(value: float) -> str:
    """Three significant digits, never an exponent for large numbers."""
    if not math.isfinite(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
