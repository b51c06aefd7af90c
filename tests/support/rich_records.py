"""Builds the record of a run that searched, ranked and timed layers, on a board that tells heat and clock."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from edgeopt.core.layers import LayerFigures
from edgeopt.core.measurement import Measurement
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment
from edgeopt.core.space import Trial
from support.records import run_record

THROTTLED = 9
"""Which launch, in the device's order, lost its clock."""


def rich_record(trials: int = 40, layers: int = 24) -> RunRecord:
    """A run with everything that a page can show."""
    record = run_record()
    assert record.selection is not None
    items = record.selection.assessments
    order = {id(launch): number for number, launch in enumerate(_in_order(items), 1)}
    warmed = tuple(
        replace(item, candidate=replace(item.candidate, measurements=tuple(
            _warmed(launch, order[id(launch)]) for launch in item.candidate.measurements
        )))
        for item in items
    )  # fmt: skip
    selection = replace(record.selection, assessments=warmed)
    return replace(record, selection=selection, trials=trials_of(trials), layers=layers_of(layers))


def _in_order(items: tuple[Assessment, ...]) -> list[Measurement]:
    """Quick launches of all, then the finals."""
    return [item.candidate.measurements[turn] for turn in (0, 1) for item in items]


def _warmed(launch: Measurement, number: int) -> Measurement:
    lost = number == THROTTLED
    heat = 50.0 + 14.0 * (1 - math.exp(-number / 6))
    evidence = {
        "before": {"temperature_celsius": heat - 6.0, "governor": "ondemand"},
        "after": {"temperature_celsius": heat, "governor": "ondemand"},
        "watched": {
            "hottest_celsius": 81.5 if lost else heat + 0.5,
            "last_khz": 1_500_000 if lost else 2_400_000,
            "lowest_khz": 1_500_000 if lost else 2_396_000,
        },
        "others_share": 0.02,
    }
    flags = (*launch.flags, "throttled") if lost else launch.flags
    return replace(launch, evidence=evidence, flags=flags, started_at=launch.started_at + 9.5 * number)


def trials_of(count: int, seed: int = 0) -> tuple[Trial, ...]:
    """Trials that become better, with some over the budget and some that gave nothing."""
    source = random.Random(seed)
    return tuple(_trial(number, count, source) for number in range(1, count + 1))


def _trial(number: int, count: int, source: random.Random) -> Trial:
    point = {"width": round(1 - number / count * 0.5, 2), "bits": source.choice((8, 4))}
    if source.random() < 0.1:
        return Trial(number, point, excess=1e6, reason="cosine 0.81 to the source model, at least 0.95 is wanted")
    cost = 4e6 + 9e6 * source.random() * (1 - 0.7 * number / count)
    lost = max(0.0, source.gauss(0.006, 0.005))
    excess = max(0.0, lost / 0.01 - 1)
    reason = f"loses {lost * 100:.1f} points, the budget allows 1.0" if excess else ""
    return Trial(number, point, (cost, lost), excess, f"compression-{number}", reason)


def layers_of(count: int) -> tuple[LayerFigures, ...]:
    """Layers of falling sensitivity; most have a time."""
    shares = [0.6**index for index in range(count)]
    return tuple(
        LayerFigures(
            "/features/conv1/Conv" if index == 0 else f"/features/{index}/Conv",
            share / sum(shares),
            None if index % 5 == 4 else round(0.9 / (1 + index % 7), 3),
        )
        for index, share in enumerate(shares)
    )
