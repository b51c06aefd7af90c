"""Checks that labels, the model's outputs and the metric fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.core.tensor import Signature
from edgeopt.errors import DataError
from edgeopt_runner.protocol.samples import LABELS, REFERENCE

FEW_SAMPLES = 200


def check_labels(labels: Any, evaluation: Mapping[str, Any], signature: Signature) -> list[str]:
    """Check labels against the first output, for the metric ``top1``.

    Args:
        labels: All that were read, [samples, ...], those of the calibration set included; ``None``: there are none.
        evaluation: Arrays by member name, the reference outputs included.
        signature: The model's.

    Returns:
        What the user should know.

    Raises:
        DataError: No labels, not class numbers, another count than predictions, or out of range.
    """
    import numpy as np

    name = signature.outputs[0].name
    outputs = evaluation[REFERENCE + name]
    if labels is None:
        raise DataError("the metric top1 needs labels, and the data has none.", remedy="Add labels, or use fidelity.")
    classes = outputs.shape[-1] if outputs.ndim > 1 else 1
    predictions = int(np.prod(outputs.shape[1:-1]))
    wanted = int(np.prod(labels.shape[1:]))
    if classes < 2 or predictions != wanted:
        raise DataError(
            f"top1 does not fit: output `{name}` is {list(outputs.shape[1:])} ({predictions} predictions over "
            f"{classes} classes a sample), and there are {wanted} labels a sample.",
            remedy=_misfit_remedy(wanted, classes),
        )
    if not np.array_equal(labels, np.floor(labels)):
        raise DataError(
            f"labels such as {float(labels.ravel()[0])!r} are no class numbers.",
            remedy="Give --metric file.py:function.",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        hint = (
            "Subtract 1 from the labels." if (low, high) == (1, classes) else "Check which network the labels are for."
        )
        raise DataError(
            f"labels go from {low} to {high}, but output `{name}` has the classes 0 to {classes - 1}.", remedy=hint
        )
    count = evaluation[LABELS].size
    return [f"top1 over {count} samples moves in steps of {100 / count:.2g} points."] if count < FEW_SAMPLES else []


def _misfit_remedy(wanted: int, classes: int) -> str:
    if wanted == classes and classes > 1:
        return "The labels look one-hot: give their arg-max."
    return "Use --metric fidelity, or --metric file.py:function."


def chance_note(baseline: float, evaluation: Mapping[str, Any], signature: Signature) -> list[str]:
    """A warning where the source model is hardly better than guessing: mostly wrong preprocessing or other labels."""
    classes = evaluation[REFERENCE + signature.outputs[0].name].shape[-1]
    if baseline > 1.5 / classes:
        return []
    return [
        f"The source model itself reaches {baseline:.1%} top1, about as much as guessing among {classes} classes: "
        "check preprocessing and labels."
    ]
