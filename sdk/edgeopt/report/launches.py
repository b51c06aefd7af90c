"""Every launch of a run in the order in which the device began them, and safe readings of what it said around each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.core.measurement import Measurement
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment


@dataclass(frozen=True)
class Launch:
    """One launch of a candidate.

    Attributes:
        number: 1 for the first that the device began.
        row: The candidate's row in the table.
        item: The candidate.
        measurement: What the launch found.
    """

    number: int
    row: int
    item: Assessment
    measurement: Measurement


def launches_of(record: RunRecord) -> tuple[Launch, ...]:
    """The launches behind the decision, by the device's clock; empty where nothing was decided."""
    assessments = record.selection.assessments if record.selection else ()
    found = [(launch, row, item) for row, item in enumerate(assessments, 1) for launch in item.candidate.measurements]
    found.sort(key=lambda one: (one[0].started_at, one[1]))
    return tuple(Launch(number, row, item, launch) for number, (launch, row, item) in enumerate(found, 1))


def reading(evidence: Mapping[str, object], *path: str) -> float | None:
    """A finite number that the device put under `path`, or ``None``: it may have put anything there."""
    value: object = evidence
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
