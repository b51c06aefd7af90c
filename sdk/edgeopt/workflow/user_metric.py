"""Turns the outputs that a device sent into the value of a user's own metric."""

from __future__ import annotations

from pathlib import Path

from edgeopt.core.measurement import Accuracy
from edgeopt.workflow.preparing import Prepared


def accuracy_from_outputs(outputs: Path, prepared: Prepared) -> Accuracy:
    """Call the user's function on the device's outputs and our labels.

    Raises:
        DataError: The function fails or does not return a finite number.
    """
    raise NotImplementedError
