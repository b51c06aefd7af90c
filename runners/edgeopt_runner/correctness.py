"""Golden inputs on this board against the source model's outputs: right shapes, finite, not constant, close enough.

One sample is held at a time (and the first, to see whether outputs follow the inputs at all), so that a segmentation
network's outputs do not count as the model's memory.
"""

import math
from typing import Any, Dict, Optional

from edgeopt_runner.engines import Session
from edgeopt_runner.group import join
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import REFERENCE, Sample, SampleFile

_DRIFT = 1e-3
_SPREAD = 0.01


class Comparison:
    """How outputs compare with the references: worst cosine and difference, and why they do not pass (else empty)."""

    def __init__(self, cosine: float, max_abs: Optional[float], reason: str) -> None:
        self.cosine = cosine
        self.max_abs = max_abs
        self.reason = reason


def feeds_of(sample: Sample, session: Session) -> Dict[str, Any]:
    """The sample's arrays for the inputs that the model still has: a pass may have removed an unused one."""
    return {name: sample.inputs[name] for name in session.inputs if name in sample.inputs}


def compare(session: Session, golden: SampleFile, min_cosine: float) -> Comparison:
    """Run every golden sample and judge the outputs.

    Raises:
        RunFailed: The runtime failed.
    """
    worst, largest, reason = 1.0, 0.0, ""
    if not golden.count or not golden.names(REFERENCE):
        return Comparison(0.0, None, "there are no golden outputs to compare with")
    first: Any = None
    follows: bool = False
    should_follow: bool = False
    for sample in golden:
        outputs = session.run(feeds_of(sample, session))
        problem = _problem(sample.reference, outputs)
        if problem:
            return Comparison(0.0, None, problem)
        worst = min(worst, metrics.cosine(sample.reference, outputs))
        largest = max(largest, metrics.max_abs(sample.reference, outputs))
        first = first or (sample.reference, outputs)
        follows = follows or metrics.max_abs(first[1], outputs) > 0
        should_follow = should_follow or _spread(first[0], sample.reference) > _SPREAD
    if should_follow and not follows:
        reason = "the outputs are the same for every input"
    elif worst < min_cosine:
        reason = "cosine %.6f to the source model's outputs, less than %.6f" % (worst, min_cosine)
    return Comparison(worst, largest if math.isfinite(largest) else None, reason)


def compare_batch(session: Session, golden: SampleFile, batch: int, min_cosine: float) -> Comparison:
    """Run golden samples as one request of `batch` and judge each sample's outputs, which come in its place.

    Raises:
        RunFailed: The runtime failed.
    """
    found = list(golden.read(batch))
    samples = [found[number % len(found)] for number in range(batch)] if found else []
    if not samples:
        return Comparison(0.0, None, "there are no golden outputs to compare with")
    outputs = session.run(join([feeds_of(sample, session) for sample in samples]))
    worst, largest, rows = 1.0, 0.0, session.rows or 1
    for number, sample in enumerate(samples):
        own = {name: value[number * rows : (number + 1) * rows] for name, value in outputs.items()}
        problem = _problem(sample.reference, own)
        if problem:
            return Comparison(0.0, None, "sample %d of a batch: %s" % (number, problem))
        worst = min(worst, metrics.cosine(sample.reference, own))
        largest = max(largest, metrics.max_abs(sample.reference, own))
    reason = ""
    if worst < min_cosine:
        reason = "in a batch cosine %.6f to the source model's outputs, less than %.6f" % (worst, min_cosine)
    return Comparison(worst, largest if math.isfinite(largest) else None, reason)


def _problem(reference: Dict[str, Any], outputs: Dict[str, Any]) -> str:
    """What is wrong with the outputs regardless of their values' closeness; empty where nothing is."""
    import numpy as np

    for name, expected in reference.items():
        if name not in outputs:
            return "output %s is missing" % name
        found = np.asarray(outputs[name])
        if found.shape != expected.shape:
            return "output %s has shape %s, not %s" % (name, list(found.shape), list(expected.shape))
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            return "output %s has values that are not finite" % name
        if expected.size > 1 and (found == found.flat[0]).all() and not (expected == expected.flat[0]).all():
            return "output %s is constant" % name
    return ""


def _spread(first: Dict[str, Any], other: Dict[str, Any]) -> float:
    """Largest difference between two sets of outputs, over the largest value of the first."""
    import numpy as np

    peaks = [float(np.abs(np.asarray(array, dtype=np.float64)).max()) for array in first.values() if array.size]
    scale = max(peaks) if peaks else 0.0
    return metrics.max_abs(first, other) / scale if scale else 0.0


def judge(before: Comparison, after: Optional[Comparison]) -> Dict[str, Any]:
    """The fields of `edgeopt.core.measurement.Correctness`.

    Args:
        before: The golden samples before the load.
        after: The same after it; ``None`` where it did not get that far.
    """
    reason = before.reason
    if after is not None and not reason:
        if after.reason:
            reason = "after the load: %s" % after.reason
        elif abs(after.cosine - before.cosine) > _DRIFT:
            reason = "outputs changed under load: cosine %.6f before, %.6f after" % (before.cosine, after.cosine)
    last = after or before
    known = [value.max_abs for value in (before, last) if value.max_abs is not None]
    return {
        "passed": not reason,
        "cosine": min(before.cosine, last.cosine),
        "max_abs": max(known) if len(known) == 2 else None,
        "reason": reason,
    }
