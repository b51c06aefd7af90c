"""Metrics with one definition for host and device. Outputs are dictionaries of NumPy arrays by output name."""

import math
from typing import Any, Dict, List


def _flat(outputs: Dict[str, Any]) -> Any:
    import numpy as np

    return np.concatenate([np.asarray(outputs[name], dtype=np.float64).ravel() for name in sorted(outputs)])


def cosine(reference: Dict[str, Any], outputs: Dict[str, Any]) -> float:
    """Smallest cosine similarity over the outputs, each flattened; 1.0 where both are all zero.

    Non-finite values give 0.0, so that they can never pass for agreement.
    """
    import numpy as np

    worst = 1.0
    for name, expected in reference.items():
        a = np.asarray(expected, dtype=np.float64).ravel()
        b = np.asarray(outputs[name], dtype=np.float64).ravel()
        if a.shape != b.shape or not np.isfinite(b).all():
            return 0.0
        norm = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
        value = float(a @ b) / norm if norm > 0 else float(np.array_equal(a, b))
        worst = min(worst, value)
    return worst


def max_abs(reference: Dict[str, Any], outputs: Dict[str, Any]) -> float:
    """Largest absolute difference over all outputs; infinite where shapes differ or values are not finite."""
    import numpy as np

    worst = 0.0
    for name, expected in reference.items():
        a = np.asarray(expected, dtype=np.float64)
        b = np.asarray(outputs[name], dtype=np.float64)
        if a.shape != b.shape or not np.isfinite(b).all():
            return math.inf
        if a.size:
            worst = max(worst, float(np.abs(a - b).max()))
    return worst


def sqnr_db(reference: Dict[str, Any], outputs: Dict[str, Any]) -> float:
    """Signal to quantisation noise, 10·log10(Σ reference² / Σ (reference − output)²), capped at 200 dB."""
    a, b = _flat(reference), _flat(outputs)
    noise, signal = float(((a - b) ** 2).sum()), float((a**2).sum())
    if not math.isfinite(noise) or signal == 0:
        return -200.0 if noise != 0 else 200.0
    return 200.0 if noise == 0 else max(-200.0, min(200.0, 10 * math.log10(signal / noise)))


def top1(outputs: Dict[str, Any], label: Any) -> List[float]:
    """1.0 where the arg-max over the last axis of the first output equals the label, else 0.0; one number a label.

    The output is [batch, classes] or [batch, ..., classes] with as many labels as predictions.
    """
    import numpy as np

    first = np.asarray(next(iter(outputs.values())))
    if not np.isfinite(np.asarray(first, dtype=np.float64)).all():
        return [0.0] * int(np.size(label))
    predicted = first.argmax(axis=-1).ravel()
    wanted = np.asarray(label).ravel()
    if predicted.shape != wanted.shape:
        raise ValueError("%d predictions for %d labels" % (predicted.size, wanted.size))
    return [float(value) for value in predicted == wanted]


def top1_agreement(reference: Dict[str, Any], outputs: Dict[str, Any]) -> float:
    """Share of arg-maxes over the last axis of the first output that agree with the reference's."""
    import numpy as np

    name = next(iter(reference))
    a, b = np.asarray(reference[name]), np.asarray(outputs[name])
    if a.ndim == 0 or a.shape != b.shape:
        return 0.0
    return float((a.argmax(axis=-1) == b.argmax(axis=-1)).mean())
