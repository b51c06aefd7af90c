"""A board none of whose runtimes reads the original, as 32-bit ones: a limit on the loss is kept all the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from edgeopt.core.recipe import BASELINE
from edgeopt.environments import is_ready
from edgeopt.workflow import trying
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.request import SearchRequest
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets.convert.onnx_to_ncnn import TOOLS
from support.workflow import SHORT, Computer, Heard, make_task


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> None:
    if "EDGEOPT_ENVIRONMENTS" not in os.environ:
        folder = Path(tempfile.gettempdir(), f"edgeopt-environments-{os.getuid()}")
        monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(folder))
    if not is_ready(TOOLS):
        pytest.skip("ncnn's converter is not here (a first use of convert_ncnn makes its environment)")


SPACE = """
name: converted
choices:
  precision: [float, half]
passes:
  - {name: convert_ncnn, options: {precision: $precision}}
"""


@pytest.mark.parametrize("runtimes", [("ncnn",), ("onnxruntime", "ncnn")], ids=["unreadable", "read by another"])
def test_trials_of_a_search_run_in_the_runtime_that_reads_them(
    computer: Computer,
    workspace: Workspace,
    converter: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtimes: tuple[str, ...],
) -> None:
    monkeypatch.setattr(trying, "QUICK", SHORT)
    (tmp_path / "space.yaml").write_text(SPACE)
    task, wanted = make_task(tmp_path / "task", labels=True), SearchRequest(str(tmp_path / "space.yaml"), "random", 1)
    record = deploy(task.request(recipes=("none",), runtimes=runtimes, search=wanted), workspace)
    (trial,) = record.trials
    assert trial.measured, trial.reason
    assert record.selection is not None
    names = {one.candidate.variant.name for one in record.selection.assessments}
    assert trial.variant in names
    assert (BASELINE.name in names) == ("onnxruntime" in runtimes)


def test_losses_count_from_the_original_on_the_host(
    computer: Computer, workspace: Workspace, converter: None, tmp_path: Path
) -> None:
    task, heard = make_task(tmp_path / "task", labels=True), Heard()
    record = deploy(task.request(recipes=("ncnn-float",), runtimes=("ncnn",)), workspace, listener=heard)
    assert "Nothing on local reads the original: losses count from it as here." in heard.lines
    assert record.selection is not None
    assert record.selection.winner is not None
    (only,) = record.selection.assessments
    assert only.candidate.variant.name == "ncnn-float" != BASELINE.name
    assert only.candidate.reference is not None
    assert only.candidate.reference.value == 1.0, "the labels are the original's own answers"
    assert only.drop is not None
    assert only.drop.value == pytest.approx(0.0, abs=0.05)
    assert record.deployment is not None
