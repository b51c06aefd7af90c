"""Turns the outputs that a device sent into the value of a user's own metric."""

from __future__ import annotations

from pathlib import Path

from edgeopt.core.measurement import Accuracy
from edgeopt.graph.evaluate import evaluate_outputs


def accuracy_from_outputs(outputs: Path, evaluation: Path, metric: str) -> Accuracy:
    """Call the user's function on the device's outputs and our labels.

    Args:
        outputs: Sample file with the device's outputs, as the runner sent it.
        evaluation: The evaluation samples, with their labels.
        metric: ``file.py:function``.

    Raises:
        DataError: The function fails or does not return a finite number.
    """
    found = evaluate_outputs(outputs, evaluation, metric)
    return Accuracy(metric=metric, value=found.value, per_sample=found.per_sample, extra=found.extra)
