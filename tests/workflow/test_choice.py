"""The choice proved with delays inside the timed inference, never by hoping that the machine is quiet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core.recipe import BASELINE
from edgeopt.core.selection import Assessment, Selection
from edgeopt.store.keys import variant_key
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.workspace import Workspace
from support.networks import mlp_onnx
from support.workflow import Computer, Task, known_variants, probe_of_this_machine

SLOW, FAST = 0.006, 0.003


def inject(patch: pytest.MonkeyPatch, delays: dict[str, float]) -> None:
    """Delay every timed inference of these files, by digest."""
    faults = [f"engine.run:sleep={seconds}@{digest[:16]}" for digest, seconds in delays.items()]
    patch.setenv("EDGEOPT_FAULT", ",".join(faults))


def of_variant(selection: Selection, name: str) -> list[Assessment]:
    return [item for item in selection.assessments if item.candidate.variant.name == name]


def winner(selection: Selection) -> str:
    assert selection.winner is not None
    return selection.assessment(selection.winner).candidate.variant.name


@pytest.mark.parametrize(("delayed", "best"), [("int8-minmax", BASELINE.name), (BASELINE.name, "int8-minmax")])
def test_what_is_slower_on_the_device_loses(
    computer: Computer, workspace: Workspace, task: Task, monkeypatch: pytest.MonkeyPatch, delayed: str, best: str
) -> None:
    int8 = known_variants(workspace)["int8-minmax"]
    digests = {"int8-minmax": int8.artifact.digest, BASELINE.name: int8.provenance.model_digest}
    inject(monkeypatch, {digests[delayed]: SLOW, digests[best]: FAST})
    record = deploy(task.request(recipes=("int8-minmax",), launches=2), workspace)
    assert record.selection is not None
    assert winner(record.selection) == best
    for item in of_variant(record.selection, delayed):
        assert item.verdict == "slower", item.reason
        assert item.latency_ns is not None
        assert item.latency_ns.value > SLOW * 1e9
        assert "slower than" in item.reason
    assert record.deployment is not None
    assert record.deployment.variant_digest == digests[best]


def test_equal_delays_are_called_a_tie_and_accuracy_breaks_it(
    computer: Computer, workspace: Workspace, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    int8 = known_variants(workspace)["int8-minmax"]
    inject(monkeypatch, {int8.artifact.digest: SLOW, int8.provenance.model_digest: SLOW})
    record = deploy(task.request(recipes=("int8-minmax",), launches=2), workspace)
    assert record.selection is not None
    assert winner(record.selection) == BASELINE.name
    best, *others = of_variant(record.selection, "int8-minmax")
    assert {item.verdict for item in (best, *others)} == {"tie"}
    assert "within noise of original" in best.reason


def test_a_variant_with_wrong_outputs_on_the_device_cannot_win_however_fast_it_is(
    computer: Computer, workspace: Workspace, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is made to vouch for a file that computes something else, as if the board computed it wrong."""
    int8 = known_variants(workspace)["int8-minmax"]
    other = workspace.artifacts.add(mlp_onnx(computer.home / "other.onnx", seed=5, width=96), "onnx")
    key = variant_key(int8.provenance, isa=probe_of_this_machine().isa, max_drop=task.request().budget.max_drop)
    workspace.ledger.remember_variant(key, replace(int8, artifact=other))
    inject(monkeypatch, {int8.provenance.model_digest: SLOW})
    record = deploy(task.request(recipes=("int8-minmax",)), workspace)
    assert record.selection is not None
    assert winner(record.selection) == BASELINE.name
    for item in of_variant(record.selection, "int8-minmax"):
        assert item.candidate.variant.artifact == other
        assert not item.feasible
        assert "wrong outputs on the device: cosine" in item.reason
    assert record.deployment is not None
    assert record.deployment.variant_digest == int8.provenance.model_digest
