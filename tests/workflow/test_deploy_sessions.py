"""The main job ranges over sessions, and a release with several serves several threads at once."""

from __future__ import annotations

import numpy as np
import pytest

from edgeopt.core.budget import Budget
from edgeopt.core.run import RunRecord
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner import application
from support.workflow import Computer, Task, probe_of_this_machine, run_onnx


@pytest.fixture
def record(workspace: Workspace, task: Task) -> RunRecord:
    if probe_of_this_machine().cores_logical < 2:
        pytest.skip("one CPU bears one session")
    budget = Budget(max_drop=0.05, objective="time-per-item")
    return deploy(task.request(recipes=("optimised",), sessions=(2,), budget=budget), workspace)


def test_every_candidate_with_sessions_tells_its_throughput_and_the_winner_runs_with_them(
    computer: Computer, record: RunRecord, task: Task
) -> None:
    assert record.selection is not None
    for assessment in record.selection.assessments:
        assert assessment.candidate.settings.sessions == 2
        assert all(launch.items_per_second for launch in assessment.candidate.measurements)
    assert record.deployment is not None
    assert record.deployment.settings.sessions == 2
    with application.load("net", str(computer.root)) as model:
        inputs = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)
        np.testing.assert_allclose(model({"x": inputs})["y"], run_onnx(task.network, inputs), rtol=1e-4, atol=1e-5)
        assert len(model._session.sessions) == 2  # type: ignore[attr-defined]
