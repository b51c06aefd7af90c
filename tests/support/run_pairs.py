"""Pairs of runs: the same work again, faster boards, other networks, other samples."""

from __future__ import annotations

from dataclasses import replace

from edgeopt.core.measurement import Accuracy
from edgeopt.core.run import RunRecord
from support.records import BASELINE, LINES, digest, run_record


def later(run_id: str = "r-later", speed: float = 1.0) -> RunRecord:
    """The same work an hour later, with every variant but the original `speed` times as fast."""
    lines = tuple(
        line if line.name == BASELINE.name else replace(line, median_ms=line.median_ms / speed) for line in LINES
    )
    record = run_record(lines)
    return replace(record, run_id=run_id, started_at=record.started_at + 3600, finished_at=record.finished_at + 3600)


def of_another_network(record: RunRecord) -> RunRecord:
    artifact = replace(record.model.artifact, digest=digest("another"))
    return replace(record, model=replace(record.model, name="letters", artifact=artifact))


def on_another_board(record: RunRecord) -> RunRecord:
    facts = replace(record.facts, model="Jetson Orin Nano", fingerprint=digest("orin"))
    return replace(record, facts=facts, device=replace(record.device, name="orin"))


def with_answers(record: RunRecord, right: int, of: int = 100) -> RunRecord:
    """Every launch got `right` of its samples right, always the first ones."""
    answers = Accuracy("top1", right / of, tuple(float(index < right) for index in range(of)), samples=of)
    assert record.selection is not None
    changed = tuple(
        replace(item, candidate=replace(item.candidate, measurements=tuple(
            replace(launch, accuracy=answers if launch.ok else None) for launch in item.candidate.measurements
        )))
        for item in record.selection.assessments
    )  # fmt: skip
    return replace(record, selection=replace(record.selection, assessments=changed))
