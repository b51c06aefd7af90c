"""Where to cut an activation's range: from a histogram to the interval that its 8 bits cover. Pure NumPy.

ONNX Runtime has three of these, but they keep every activation of every sample in memory, and it has no MSE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Method = Literal["minmax", "entropy", "percentile", "mse"]
BINS = 2048
_LEVELS = 256
_STRIDE = 8


@dataclass(frozen=True)
class Spread:
    """What calibration saw of one tensor.

    Attributes:
        low, high: Smallest and largest value.
        counts: [BINS] values per bin of equal width between `low` and `high`; ``None`` where only the ends are known.
    """

    low: float
    high: float
    counts: Any = None

    def centres(self) -> Floats:
        """[BINS] middles of the bins."""
        import numpy as np

        width = (self.high - self.low) / BINS
        return self.low + width * (np.arange(BINS) + 0.5)


def cut(spread: Spread, method: Method, *, percentile: float = 99.99) -> tuple[float, float]:
    """The interval to quantise; always holds 0, so that padding and ReLU stay exact.

    Args:
        spread: What was seen; needs `counts` for every method but ``minmax``.
        method: How to choose.
        percentile: Share of the values that ``percentile`` keeps, in per cent, (0, 100].
    """
    low, high = spread.low, spread.high
    if method != "minmax" and high > low:
        if method == "percentile":
            low, high = _percentile(spread, percentile)
        elif method == "entropy":
            low, high = _entropy(spread)
        else:
            low, high = _mse(spread)
    return min(low, 0.0), max(high, 0.0)


def _percentile(spread: Spread, percentile: float) -> tuple[float, float]:
    """Cut the same share at both ends.

    Wu, Judd, Zhang, Isaev, Micikevicius: Integer Quantization for Deep Learning Inference, 2020, §3.3 ("Percentile").
    """
    import numpy as np

    share = (100.0 - percentile) / 200.0
    cumulated = np.cumsum(spread.counts) / np.sum(spread.counts)
    width = (spread.high - spread.low) / BINS
    first = int(np.searchsorted(cumulated, share, side="right"))
    last = int(np.searchsorted(cumulated, 1.0 - share, side="left"))
    return spread.low + width * first, spread.low + width * min(last + 1, BINS)


def _entropy(spread: Spread) -> tuple[float, float]:
    """The threshold on |x| after which the quantised distribution tells least apart from the true one.

    Migacz: 8-bit Inference with TensorRT, 2017 (KL divergence, 128 levels for the magnitude of a signed tensor). As in
    NVIDIA's pytorch-quantization the first bin takes the second's count: a ReLU's zeros are exact in any case, and
    would otherwise drown all else.
    """
    import numpy as np

    signed = spread.low < 0
    top = max(abs(spread.low), abs(spread.high))
    bins, levels = (BINS // 2, _LEVELS // 2) if signed else (BINS, _LEVELS)
    magnitudes, _ = np.histogram(np.abs(spread.centres()), bins=bins, range=(0.0, top), weights=spread.counts)
    magnitudes[0] = magnitudes[1]
    best, best_loss = bins, np.inf
    for end in range(levels, bins + 1, _STRIDE):
        loss = _divergence(magnitudes, end, levels)
        if loss < best_loss:
            best, best_loss = end, loss
    threshold = top * best / bins
    return max(spread.low, -threshold), min(spread.high, threshold)


def _divergence(magnitudes: Floats, end: int, levels: int) -> float:
    """KL divergence of `magnitudes` clipped at bin `end` from its version in `levels` levels."""
    import numpy as np

    kept = magnitudes[:end]
    clipped = kept.copy()
    clipped[-1] += magnitudes[end:].sum()
    level_of_bin = np.arange(end) * levels // end
    filled = kept > 0
    mass = np.bincount(level_of_bin, weights=kept, minlength=levels)
    members = np.bincount(level_of_bin, weights=filled, minlength=levels)
    spread_out = np.where(filled, (mass / np.maximum(members, 1))[level_of_bin], 0.0)
    if clipped.sum() == 0 or spread_out.sum() == 0:
        return float("inf")
    p, q = clipped / clipped.sum(), spread_out / spread_out.sum()
    where = p > 0
    return float((p[where] * np.log(p[where] / np.maximum(q[where], 1e-9))).sum())


def _mse(spread: Spread) -> tuple[float, float]:
    """The interval with the least squared error: search one end, then the other.

    Nagel, Fournarakis, Amjad, Bondarenko, van Baalen, Blankevoort: A White Paper on Neural Network Quantization, 2021,
    equation 10.
    """
    import numpy as np

    centres = spread.centres()
    low, high = min(spread.low, 0.0), max(spread.high, 0.0)
    shares = np.linspace(1.0, 0.1, 91)
    high = min((high * share for share in shares), key=lambda end: _squared_error(spread.counts, centres, low, end))
    low = min((low * share for share in shares), key=lambda end: _squared_error(spread.counts, centres, end, high))
    return float(low), float(high)


def _squared_error(counts: Floats, centres: Floats, low: float, high: float) -> float:
    """Sum over the bins of count times squared error when [low, high] gets 256 levels."""
    import numpy as np

    if high <= low:
        return float((counts * centres**2).sum())
    scale = (high - low) / (_LEVELS - 1)
    rounded = low + scale * np.round((np.clip(centres, low, high) - low) / scale)
    return float((counts * (centres - rounded) ** 2).sum())
