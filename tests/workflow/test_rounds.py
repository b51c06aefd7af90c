"""Rounds of measuring on a device: quick ones for all, longer ones for survivors, and a race that ends when won."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core import plan
from edgeopt.core.recipe import BASELINE
from edgeopt.workflow import tuning
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.workspace import Workspace
from support.workflow import SHORT, Computer, Heard, Task, known_measurements, known_variants

SLOW, FAST = 0.012, 0.003


@pytest.fixture
def fast_int8(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    """The int8 variant is four times as fast as the original; its digest."""
    int8 = known_variants(workspace)["int8-minmax"]
    delays = {int8.artifact.digest: FAST, int8.provenance.model_digest: SLOW}
    faults = [f"engine.run:sleep={seconds}@{digest[:16]}" for digest, seconds in delays.items()]
    monkeypatch.setenv("EDGEOPT_FAULT", ",".join(faults))
    return int8.artifact.digest


def test_the_race_ends_as_soon_as_one_wins_for_sure(
    computer: Computer, workspace: Workspace, task: Task, fast_int8: str
) -> None:
    heard = Heard()
    record = deploy(task.request(recipes=("int8-minmax",), launches=9), workspace, listener=heard)
    assert record.selection is not None
    best = record.selection.assessment(str(record.selection.winner))
    assert best.candidate.variant.artifact.digest == fast_int8
    assert "wins for sure after " in heard.text
    rounds = {item.candidate.variant.name: len(item.candidate.measurements) for item in record.selection.assessments}
    assert 3 <= rounds["int8-minmax"] < 9
    assert rounds[BASELINE.name] == rounds["int8-minmax"]  # it runs along for comparison


def test_full_effort_measures_survivors_by_the_standard_plan_before_the_finals(
    computer: Computer, workspace: Workspace, task: Task, fast_int8: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STANDARD", replace(SHORT, name="standard", min_samples=70))
    monkeypatch.setitem(plan.FINALS, "full", replace(SHORT, name="full", min_samples=130))
    heard = Heard()
    record = deploy(task.request(recipes=("int8-minmax",), effort="full"), workspace, listener=heard)
    taken = [(one.variant_digest, one.plan.name) for one in known_measurements(workspace).values()]
    for digest in (fast_int8, record.model.artifact.digest):
        assert {name for variant, name in taken if variant == digest} >= {"quick", "standard", "full"}
    assert heard.text.index("Measuring survivors: ") < heard.text.index("Finals, interleaved: ")
