"""Runs kept in a real MLflow database beside the ledger, and what happens where MLflow is not as it should be."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.run import RunRecord
from edgeopt.errors import UsageError
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.tracking.mlflow_tracker import EXPERIMENT, MlflowTracker, tracker_for
from edgeopt.workflow.workspace import Workspace
from support.bad_input import refused
from support.command import Command
from support.local_page import keep
from support.mlflow_server import tracking_server
from support.records import HOSTILE, hostile_record, run_record
from support.rich_records import rich_record
from support.workflow import Computer, Heard, Task

# looked for, not imported: imported before edgeopt does it, its telemetry would be on
pytestmark = pytest.mark.skipif(find_spec("mlflow") is None, reason="no MLflow: pip install 'edgeopt[mlflow]'")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that MLflow has made; making one takes it seconds."""
    made = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    tracker_for(f"mlflow:{made}")
    return made


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def begun(record: RunRecord) -> RunRecord:
    """The same run when nothing was measured yet."""
    return replace(record, selection=None, trials=(), state="running", finished_at=0.0, deployment=None, variants=())


def runs_of(client: Any, run_id: str) -> tuple[Any, dict[str, Any]]:
    """MLflow's one run of that id, and its children by name."""
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`edgeopt.run_id` = '{run_id}'")
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    children = {child.info.run_name: child for child in found}
    assert len(children) == len(found)
    return parent, children


def artifact(client: Any, run: Any, name: str) -> str:
    return Path(client.download_artifacts(run.info.run_id, name)).read_text(encoding="utf-8")


def test_a_run_is_one_run_with_a_child_for_every_variant(uri: str, client: Any) -> None:
    record, tracker = replace(rich_record(), run_id="whole"), MlflowTracker(uri)
    tracker.saved(begun(record))
    assert runs_of(client, "whole")[0].info.status == "RUNNING"
    tracker.saved(record)
    tracker.ended(record, "<!doctype html><title>page</title>")
    tracker.left()
    parent, children = runs_of(client, "whole")
    assert parent.info.status == "FINISHED"
    assert parent.data.params["device"] == "pi5"
    assert parent.data.params["version.onnxruntime"] == "1.32.0"
    assert parent.data.metrics["latency_median_ms"] == pytest.approx(4.21)
    assert parent.data.metrics["run_seconds"] == pytest.approx(212)
    assert parent.data.tags["edgeopt.winner"] == "int8-entropy / 2 threads"
    assert set(children) == {one.name for one in record.variants} | {one.name for one in record.rejections}
    winner, lost, rejected = (children[name] for name in ("int8-entropy", "int8-avx512", "int8-percentile"))
    assert winner.data.params["settings"] == "2 threads"
    assert winner.data.params["quantize_static.calibrator"] == "entropy"
    assert winner.data.metrics["metric_top1"] == pytest.approx(0.9709)
    assert winner.data.metrics["latency_p90_ms"] == pytest.approx(4.21 * 1.12)
    assert winner.data.metrics["peak_memory_mib"] == pytest.approx(61.2, rel=1e-3)
    assert (winner.info.status, winner.data.tags["edgeopt.verdict"]) == ("FINISHED", "winner")
    assert (lost.info.status, lost.data.tags["edgeopt.verdict"]) == ("FAILED", "failed")
    assert rejected.info.status == "FAILED"
    assert "cosine 0.81" in rejected.data.tags["edgeopt.reason"]
    assert "<title>page" in artifact(client, parent, "report.html")
    assert artifact(client, parent, "model_card.md").startswith("# digits for pi5")


def test_a_search_is_a_curve(uri: str, client: Any) -> None:
    record = replace(rich_record(), run_id="curve")
    MlflowTracker(uri).saved(record)
    parent, _ = runs_of(client, "curve")
    points = client.get_metric_history(parent.info.run_id, "trial_ms")
    ran = [trial for trial in record.trials if trial.measured]
    assert [point.step for point in points] == [trial.number for trial in ran]
    assert [point.value for point in points] == pytest.approx([trial.objectives[0] / 1e6 for trial in ran])


def test_a_run_that_was_cut_off_is_killed_and_taken_up_again_as_the_same(uri: str, client: Any) -> None:
    record, first = replace(run_record(), run_id="twice"), MlflowTracker(uri)
    first.saved(begun(record))
    first.saved(replace(record, selection=None, state="running"))
    first.left()
    assert runs_of(client, "twice")[0].info.status == "KILLED"
    second = MlflowTracker(uri)
    second.saved(begun(record))
    assert runs_of(client, "twice")[0].info.status == "RUNNING"
    second.saved(record)
    parent, children = runs_of(client, "twice")
    assert parent.info.status == "FINISHED"
    assert children["int8-entropy"].data.metrics["latency_median_ms"] == pytest.approx(4.21)


def test_one_tracker_keeps_the_runs_of_several_kinds_apart(uri: str, client: Any) -> None:
    tracker = MlflowTracker(uri)
    for name, page in (("pi4", "slow"), ("pi5", "fast")):
        record = replace(run_record(), run_id=f"group.{name}", profile_name=name)
        tracker.saved(record)
        tracker.ended(record, page)
        tracker.left()
    for name, page in (("pi4", "slow"), ("pi5", "fast")):
        parent, children = runs_of(client, f"group.{name}")
        assert parent.data.params["profile"] == name
        assert set(children) == {one.name for one in (*run_record().variants, *run_record().rejections)}
        assert artifact(client, parent, "report.html") == page


def test_telling_the_same_again_changes_nothing(uri: str, client: Any) -> None:
    record = replace(run_record(), run_id="again")
    MlflowTracker(uri).saved(record)
    before, _ = runs_of(client, "again")
    MlflowTracker(uri).saved(record)
    after, _ = runs_of(client, "again")
    assert after.info.run_id == before.info.run_id
    assert (after.data.params, after.data.metrics) == (before.data.params, before.data.metrics)


def test_a_run_that_failed_has_failed_there_too(uri: str, client: Any) -> None:
    MlflowTracker(uri).saved(replace(run_record(), run_id="failed", selection=None, state="failed"))
    parent, children = runs_of(client, "failed")
    assert parent.info.status == "FAILED"
    assert {child.info.status for child in children.values()} == {"FAILED"}


def test_hostile_names_are_kept_as_text(uri: str, client: Any) -> None:
    record, tracker = replace(hostile_record(), run_id="hostile"), MlflowTracker(uri)
    tracker.saved(record)
    tracker.ended(record, "")
    parent, _ = runs_of(client, "hostile")
    assert "\\u202e" in parent.data.params["board"]
    assert HOSTILE not in parent.data.params.values()
    card = artifact(client, parent, "model_card.md")
    assert "<img" not in card.partition("## How to make it again")[0].replace("\\<", "")


def test_a_real_run_is_kept_as_it_goes(uri: str, client: Any, computer: Computer, task: Task) -> None:
    with computer.workspace() as workspace:
        record = deploy(task.request(), workspace, tracker=MlflowTracker(uri))
        page = (workspace.run_folder(record.run_id) / "report.html").read_text(encoding="utf-8")
    parent, children = runs_of(client, record.run_id)
    assert parent.info.status == "FINISHED"
    assert set(children) >= {"original", "int8-minmax"}
    assert record.selection is not None
    best = record.selection.assessments[0]
    assert best.latency_ns is not None
    told = children[best.candidate.variant.name].data.metrics["latency_median_ms"]
    assert told == pytest.approx(best.latency_ns.value / 1e6)
    assert artifact(client, parent, "report.html") == page


def test_a_bench_is_a_run_with_a_child_for_every_launch(
    uri: str, client: Any, computer: Computer, task: Task, command: Command
) -> None:
    words = ("--plan", "quick", "--threads", "1", "--log-to", f"mlflow:{uri}", "--json")
    done = command("bench", str(task.network), *words)
    assert done.code == 0
    measured = json.loads(done.stdout)["measurements"]
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`mlflow.runName` = 'bench {task.network}'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert (parent.info.status, parent.data.params["plan"]) == ("FINISHED", "quick")
    told = {child.info.run_name: child.data.metrics["latency_median_ms"] for child in children}
    assert sorted(told.values()) == pytest.approx(sorted(one["latency"]["median_ns"] / 1e6 for one in measured))


class _At(Heard):
    """A listener to whom something happens when a stage begins."""

    def __init__(self, name: str, deed: Callable[[], None]) -> None:
        super().__init__()
        self._name, self._deed = name, deed

    def stage(self, name: str, total: int) -> None:
        super().stage(name, total)
        if name == self._name:
            self._deed()


def test_a_server_that_dies_in_the_middle_loses_nothing_and_is_told_of_once(computer: Computer, task: Task) -> None:
    with tracking_server() as server, computer.workspace() as workspace:
        heard = _At("Activating", server.go)
        record = deploy(task.request(), workspace, listener=heard, tracker=MlflowTracker(server.url))
        kept = workspace.ledger.run(record.run_id)
        page = workspace.run_folder(record.run_id) / "report.html"
        assert "★" in page.read_text(encoding="utf-8")
    assert (record.state, kept) == ("done", record)
    assert any(run.get("run_name") == "original" for run in server.runs.values())  # it was told until then
    assert [f"edgeopt report {record.run_id} --log-to" in line for line in heard.lines].count(True) == 1
    assert sum(server.url in line for line in heard.lines) == 1


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def test_a_place_that_cannot_be_used_is_refused_before_the_run_begins(
    command: Command, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    outcome = command(*task.words("--log-to", f"mlflow:{address}"))
    refused(outcome, 2, "MLflow at http://127.0.0.1", "cannot be used", "mlflow:sqlite:////path/mlflow.db")
    assert "secret" not in outcome.stdout + outcome.stderr
    refused(command(*task.words("--log-to", "wandb")), 2, "'wandb'", "mlflow:URI")
    with Workspace.open() as workspace:
        assert workspace.ledger.runs() == ()


def test_without_mlflow_it_says_what_to_install_before_the_run_begins(
    command: Command, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeopt.workflow.tracking.mlflow_tracker.find_spec", lambda name: None)
    refused(command(*task.words("--log-to", "mlflow")), 2, "not installed", "pip install 'edgeopt[mlflow]'")
    with Workspace.open() as workspace:
        assert workspace.ledger.runs() == ()


def test_a_folder_as_a_store_is_refused_as_mlflow_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="maintenance mode"):
        tracker_for(f"mlflow:{tmp_path / 'mlruns'}")


def test_a_run_of_before_is_told_later(uri: str, client: Any, command: Command) -> None:
    with Workspace.open() as workspace:
        keep(workspace, replace(run_record(), run_id="r-late"))
    outcome = command("report", "r-late", "--log-to", f"mlflow:{uri}")
    assert outcome.stdout.strip() == f"Run r-late is in MLflow at {uri}."
    parent, _ = runs_of(client, "r-late")
    assert "r-late" in artifact(client, parent, "report.html")


def test_nothing_is_told_to_anybody_else(uri: str) -> None:
    from mlflow.telemetry import get_telemetry_client

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert get_telemetry_client() is None
