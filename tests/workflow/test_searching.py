"""The main job with a search: points made, measured on this machine, kept as they end; the best of them compete."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.core.device import LOCAL
from edgeopt.errors import BusyError, UsageError
from edgeopt.remote.client import connect
from edgeopt.remote.jobs import Owner
from edgeopt.report.html import render_report
from edgeopt.workflow import trying
from edgeopt.workflow.request import SearchRequest
from edgeopt_runner.protocol.samples import SampleFile
from support.compressing import fragile_onnx, sample_file
from support.workflow import SHORT, Computer, Heard, Task, make_task

SPACE = """
name: forms
choices:
  bits: [null, 8, 4]
  block: {values: [32, 16], when: {bits: [8, 4]}}
  depth: [null, 0.5]
passes:
  - {name: prune_layers, options: {ratio: $depth}}
  - simplify
  - {name: quantise_weights, options: {bits: $bits, block_size: $block}}
"""


EIGHT = """
name: eight
precision: int8
choices:
  calibrator: [minmax, entropy]
passes:
  - simplify
  - {name: quantise_static, options: {calibrator: $calibrator}}
"""


class Pulled(Heard):
    """A listener that interrupts after some trials, as Ctrl-C does."""

    def __init__(self, trials: int) -> None:
        super().__init__()
        self.left = trials

    def advance(self, text: str) -> None:
        super().advance(text)
        if self.lines[-1].startswith("Searching"):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


@pytest.fixture
def search_request(task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(trying, "QUICK", SHORT)
    (tmp_path / "space.yaml").write_text(SPACE)

    def build(**changes: Any) -> edgeopt.Request:
        wanted = replace(SearchRequest(str(tmp_path / "space.yaml"), "random", 9), **changes)
        return task.request(recipes=("none",), search=wanted)

    return build


def test_points_are_tried_on_the_device_and_the_best_of_them_compete(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    heard = Heard()
    record = edgeopt.deploy(search_request(), workspace, listener=heard)
    assert "The search leaves out depth: " in heard.text  # a plain chain has no residual blocks
    points = [dict(trial.point) for trial in record.trials]
    blocks = [{"bits": bits, "block": block, "depth": None} for bits in (8, 4) for block in (32, 16)]
    assert sorted(points, key=str) == sorted([{"bits": None, "depth": None}, *blocks], key=str)
    assert all(trial.measured for trial in record.trials)
    names = {variant.name for variant in record.variants}
    assert "original" in names
    assert names - {"original"} <= {trial.variant for trial in record.trials}
    sizes = {trial.point["bits"]: variant_size(record, trial) for trial in record.trials if trial.variant in names}
    assert record.state == "done"
    assert len(sizes) >= 1


def variant_size(record: edgeopt.RunRecord, trial: Any) -> int:
    return next(one.artifact.size_bytes for one in record.variants if one.name == trial.variant)


def test_a_fresh_search_goes_on_where_it_was_interrupted(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    request = replace(search_request(study="night"), fresh=True)
    with pytest.raises(KeyboardInterrupt):
        edgeopt.deploy(request, workspace, listener=Pulled(2))
    (cut_off,) = workspace.ledger.runs()
    before = workspace.ledger.run(cut_off.run_id).trials
    assert len(before) == 2
    heard = Heard()
    record = edgeopt.deploy(request, workspace, listener=heard)
    assert record.run_id == cut_off.run_id
    assert "--fresh" in record.command
    assert record.trials[:2] == before
    assert len(record.trials) == 5
    assert heard.text.count("Searching forms: ") == 3


def test_the_same_search_goes_on_in_its_study_and_tries_nothing_twice(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    first = edgeopt.deploy(search_request(trials=2), workspace)
    best = json.loads((workspace.run_folder(first.run_id) / "best.json").read_text())
    assert best["variant"]["name"]
    heard = Heard()
    second = edgeopt.deploy(search_request(trials=3), workspace, listener=heard)
    assert second.run_id != first.run_id
    assert second.trials[:2] == first.trials
    assert heard.text.count("Searching forms: ") == 1
    assert all(trial.board == "local" and trial.device_seconds > 0 for trial in second.trials)


def test_points_are_made_ahead_by_a_pool_and_are_the_same(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    request = replace(search_request(trials=3), executor="pool:2")
    record = edgeopt.deploy(request, workspace)
    assert "--executor pool:2" in record.command
    assert [trial.number for trial in record.trials] == [1, 2, 3]
    assert all(trial.measured for trial in record.trials)
    again = edgeopt.deploy(search_request(trials=3), workspace)
    assert again.trials == record.trials  # it is the same study, wherever its points were made


def test_a_point_that_cannot_hold_the_budget_costs_no_device_time_once_another_does(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    budget = edgeopt.Budget(max_drop=None, max_size_bytes=3500)  # between the files in 8 bits and those in 4
    record = edgeopt.deploy(replace(search_request(trials=5), seed=1, budget=budget), workspace)
    assert record.trials[0].point["bits"] == 4
    refused = {trial.number: trial for trial in record.trials if not trial.measured}
    assert {trial.point["bits"] for trial in refused.values()} == {None, 8}
    for trial in refused.values():
        assert "on disk, budget" in trial.reason
        assert trial.device_seconds == 0.0
    ran = {trial.point["bits"] for trial in record.trials if trial.measured}
    assert ran == {4}


def test_device_time_is_a_bound_and_a_board_in_use_costs_no_trial(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    other = connect(LOCAL, owner=Owner("colleague", "elsewhere"))
    with (
        other as connection,
        connection.lease("their study"),
        pytest.raises(BusyError, match=r"colleague.*their study"),
    ):
        edgeopt.deploy(search_request(trials=2), workspace)
    record = edgeopt.deploy(search_request(trials=9, max_device_seconds=0.01), workspace)
    assert [trial.number for trial in record.trials] == [1]
    assert "--max-device-seconds 0.01" in record.command


def test_a_named_study_whose_network_changed_is_refused(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace, tmp_path: Path
) -> None:
    edgeopt.deploy(search_request(trials=1, study="night"), workspace)
    changed = make_task(tmp_path / "retrained", width=48).network
    with pytest.raises(UsageError, match="study 'night' is about something else: the network changed") as refused:
        edgeopt.deploy(replace(search_request(trials=1, study="night"), model=str(changed)), workspace)
    assert "--study" in refused.value.remedy


def test_the_bound_on_trials_holds_and_the_page_shows_each_with_what_came_of_it(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace
) -> None:
    record = edgeopt.deploy(search_request(trials=2, strategy="greedy"), workspace)
    assert len(record.trials) == 2
    assert record.trials[0].chosen == "nothing changed"
    page = render_report(record)
    assert all(trial.chosen in page for trial in record.trials)
    assert "--search" in record.command
    assert "--trials 2" in record.command


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"space": "nowhere"}, "no space that ships"),
        ({"strategy": "luck"}, "luck"),
        ({"trials": 0}, "--trials 0"),
        ({"max_seconds": -1.0}, "--search-time"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace, wanted: dict[str, Any], said: str
) -> None:
    heard = Heard()
    with pytest.raises(UsageError, match=said) as refused:
        edgeopt.deploy(search_request(**wanted), workspace, listener=heard)
    assert refused.value.remedy
    assert not heard.lines  # neither the device was looked at nor anything made


def test_a_strategy_whose_library_is_not_installed_is_refused_before_anything_is_made(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not there
    heard = Heard()
    with pytest.raises(UsageError, match="needs optuna") as refused:
        edgeopt.deploy(search_request(strategy="bayesian"), workspace, listener=heard)
    assert "edgeopt[search]" in str(refused.value.remedy)
    assert not heard.lines


def test_a_point_in_8_bits_that_misses_the_budget_gets_layers_back_in_float(
    search_request: Any, computer: Computer, workspace: edgeopt.Workspace, tmp_path: Path
) -> None:
    network = fragile_onnx(tmp_path / "fragile.onnx", 100.0)
    found = list(SampleFile(str(sample_file(tmp_path / "given.npz", network, 160))))
    labels = np.concatenate([sample.reference["h6"].argmax(axis=1) for sample in found])
    np.savez(tmp_path / "arrays.npz", x=np.concatenate([sample.inputs["x"] for sample in found]), labels=labels)
    (tmp_path / "space.yaml").write_text(EIGHT)
    data = edgeopt.DataRequest(str(tmp_path / "arrays.npz"), calibration_samples=32, evaluation_samples=120)
    asked = search_request(trials=1)
    record = edgeopt.deploy(
        replace(asked, model=str(network), data=data, budget=edgeopt.Budget(max_drop=0.02)), workspace
    )
    (trial,) = record.trials
    variant = next(one for one in record.variants if one.name == trial.variant)
    assert 1 <= len(variant.kept_float) <= 3
    assert variant.metric is not None
    assert variant.metric >= 1.0 - 0.02
    assert any("layers in float" in note for note in variant.notes)
