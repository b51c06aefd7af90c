from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeopt.core.budget import Budget
from edgeopt.core.run import RunRecord
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.request import DataRequest
from edgeopt.workflow.workspace import Workspace
from support.workflow import SHORT_WORDS, Computer, Task, make_computer, make_task, run_onnx, shorten_plans

_PROGRAM = """
import json, sys
import numpy as np
import edgeopt_runner
model = edgeopt_runner.load("net")
print(json.dumps(model({"x": np.load(sys.argv[1])})["y"].tolist()))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, experienced: Path) -> Iterator[Computer]:
    """One computer for the tests that follow each other on purpose."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_plans(patch)
        yield make_computer(tmp_path_factory.mktemp("shared"), patch, like=experienced)


@pytest.fixture
def mine(shared: Computer, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """The shared computer, again in front of what every test sets by itself."""
    monkeypatch.setenv("EDGEOPT_HOME", str(shared.edgeopt_home))
    monkeypatch.setenv("EDGEOPT_LOCK", str(shared.home.parent / "local.lock"))
    return shared


@pytest.fixture(scope="module")
def first(shared: Computer, task: Task) -> RunRecord:
    """The first deployment on the shared computer."""
    with pytest.MonkeyPatch.context() as patch, shared.workspace() as workspace:
        patch.setenv("EDGEOPT_HOME", str(shared.edgeopt_home))
        patch.setenv("EDGEOPT_LOCK", str(shared.home.parent / "local.lock"))
        return deploy(task.request(), workspace)


def winner_of(record: RunRecord) -> str:
    """Digest of the chosen file."""
    assert record.selection is not None
    assert record.selection.winner is not None
    return record.selection.assessment(record.selection.winner).candidate.variant.artifact.digest


def test_the_file_that_won_is_the_one_that_is_active(mine: Computer, first: RunRecord) -> None:
    assert first.state == "done"
    assert first.deployment is not None
    assert (first.deployment.release, first.deployment.previous, first.deployment.healthy) == (1, None, True)
    model = mine.root / "apps/net/current/model.onnx"
    assert hashlib.sha256(model.read_bytes()).hexdigest() == winner_of(first) == first.deployment.variant_digest


def test_nothing_is_left_in_the_home_but_the_runners_folder(mine: Computer, first: RunRecord) -> None:
    """Neither by the runtime on the device nor by the one that makes the variants here: no reports, no caches."""
    ours = {mine.root.name, mine.edgeopt_home.name, ".ssh"}
    assert {path.name for path in mine.home.iterdir()} == ours


def test_every_candidate_was_measured_on_the_device_and_has_a_verdict(first: RunRecord) -> None:
    assert first.selection is not None
    names = {assessment.candidate.variant.name for assessment in first.selection.assessments}
    assert names == {variant.name for variant in first.variants}
    assert {"original", "int8-minmax"} <= names
    for assessment in first.selection.assessments:
        assert assessment.latency_ns is not None
        assert assessment.metric is not None
        assert assessment.memory_bytes
        assert assessment.reason


def test_a_program_on_the_device_gets_the_outputs_of_the_file_on_the_host(
    mine: Computer, first: RunRecord, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", inputs)
    runner = mine.root / "runner/current/edgeopt_runner.pyz"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "x.npy")],
        env={"HOME": str(mine.home), "PYTHONPATH": str(runner), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with mine.workspace() as workspace:
        best = workspace.run_folder(first.run_id) / "best.onnx"
    np.testing.assert_allclose(json.loads(done.stdout), run_onnx(best, inputs), rtol=1e-5, atol=1e-6)


def test_the_same_again_measures_nothing_and_changes_nothing(mine: Computer, first: RunRecord, task: Task) -> None:
    before = len(mine.jobs())
    with mine.workspace() as workspace:
        again = deploy(task.request(), workspace)
    assert len(mine.jobs()) == before
    assert any("came from the ledger" in note for note in again.notes)
    assert winner_of(again) == winner_of(first)
    assert again.deployment is not None
    assert again.deployment.release == 1


def test_a_budget_that_nothing_meets_exits_3_with_the_best_on_disk_and_activates_nothing(
    mine: Computer, first: RunRecord, task: Task
) -> None:
    done = mine.command(*task.words("--app", "strict", "--max-latency", "0.000001ms"), HOME=str(mine.home))
    assert done.returncode == 3, done.stderr
    assert "no variant meets the budget" in done.stderr
    with mine.workspace() as workspace:
        newest = workspace.ledger.run(workspace.ledger.runs()[0].run_id)
        folder = workspace.run_folder(newest.run_id)
    assert newest.state == "infeasible"
    assert newest.selection is not None
    assert newest.selection.misses
    best = newest.selection.assessment(str(newest.selection.best_so_far))
    digest = hashlib.sha256((folder / "best.onnx").read_bytes()).hexdigest()
    assert digest == best.candidate.variant.artifact.digest
    assert json.loads((folder / "best.json").read_text())["meets_budget"] is False
    assert not (mine.root / "apps/strict").exists()


def test_a_second_deployment_can_be_rolled_back(mine: Computer, first: RunRecord, task: Task) -> None:
    with mine.workspace() as workspace:
        second = deploy(task.request(threads=(2,), recipes=("optimised",)), workspace)
    assert second.deployment is not None
    assert (second.deployment.release, second.deployment.previous) == (2, 1)
    done = mine.command("device", "rollback", "local", "net", HOME=str(mine.home))
    assert done.returncode == 0, done.stderr
    assert "net on local runs release 1 again" in done.stdout
    assert (mine.root / "apps/net/current").resolve().name == "1"
    model = mine.root / "apps/net/current/model.onnx"
    assert hashlib.sha256(model.read_bytes()).hexdigest() == winner_of(first)


def test_samples_without_labels_are_judged_by_fidelity(first: RunRecord) -> None:
    assert (first.data.metric, first.data.labelled) == ("fidelity", False)
    assert first.selection is not None
    original = next(a for a in first.selection.assessments if a.candidate.variant.name == "original")
    int8 = next(a for a in first.selection.assessments if a.candidate.variant.name == "int8-minmax")
    assert original.metric == pytest.approx(1.0, abs=1e-6)
    assert int8.metric is not None
    assert 0.9 < int8.metric < 1.0


def test_a_users_own_metric_is_computed_from_the_devices_outputs(
    computer: Computer, workspace: Workspace, tmp_path: Path
) -> None:
    task = make_task(tmp_path / "labelled", labels=True)
    metric = tmp_path / "metric.py"
    metric.write_text(
        "def peak(outputs, labels):\n    return float(outputs['y'].reshape(len(labels), -1).max(axis=1).mean())\n"
    )
    data = DataRequest(str(task.samples), metric=f"{metric}:peak", evaluation_samples=24, calibration_samples=16)
    record = deploy(
        task.request(data=data, recipes=("int8-minmax",), budget=Budget(max_drop=None), activate=False), workspace
    )
    assert record.data.metric.endswith("metric.py:peak")
    assert record.selection is not None
    original = next(a for a in record.selection.assessments if a.candidate.variant.name == "original")
    with np.load(task.samples) as samples:
        outputs = run_onnx(task.network, samples["x"])
    assert original.metric is not None
    assert outputs.max(axis=1).min() < original.metric < outputs.max(axis=1).max()
    int8 = next(a for a in record.selection.assessments if a.candidate.variant.name == "int8-minmax")
    assert int8.metric != original.metric


def test_without_data_the_user_is_warned_and_what_needs_calibration_is_left_out(computer: Computer, task: Task) -> None:
    done = computer.command("deploy", str(task.network), "--recipes", "int8-minmax", *SHORT_WORDS, "--no-activate")
    assert done.returncode == 0, done.stderr
    assert "The samples are generated random numbers" in " ".join(done.stdout.split())
    assert "needs calibration samples, and there are none (give --data)" in done.stderr
    with computer.workspace() as workspace:
        record = workspace.ledger.run(workspace.ledger.runs()[0].run_id)
    assert record.data.generated
    assert record.deployment is None
