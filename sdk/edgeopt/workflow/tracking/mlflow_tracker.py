"""Keeps runs in MLflow: one of its runs for each of ours, with a child for every variant.

Through `MlflowClient`, which has no state of the process: the fluent functions would take over the user's own runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeopt.core.run import RunRecord
from edgeopt.errors import UsageError
from edgeopt.report.experiment import Entry, run_entry, variant_entries
from edgeopt.report.model_card import render_card
from edgeopt.workflow.tracking.tracker import in_short, without_password

EXPERIMENT = "edgeopt"
_SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of 7, over minutes: a run does not wait for that
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_STATES = {"done": "FINISHED", "infeasible": "FINISHED", "failed": "FAILED"}


def tracker_for(text: str) -> MlflowTracker:
    """The tracker that ``--log-to`` names.

    Args:
        text: ``mlflow:URI``, or ``mlflow``: what `MLFLOW_TRACKING_URI` says, else ``mlflow.db`` in this folder.

    Raises:
        UsageError: It is neither, MLflow is not installed, or the place cannot be used.
    """
    kind, _, uri = text.partition(":")
    if kind != "mlflow":
        raise UsageError(f"--log-to {text!r} is not known.", remedy="Say mlflow, or mlflow:URI.")
    if find_spec("mlflow") is None:
        raise UsageError(
            "--log-to mlflow needs MLflow, which is not installed.", remedy="Install it: pip install 'edgeopt[mlflow]'."
        )
    return MlflowTracker(uri)


class MlflowTracker:
    """A place where MLflow keeps experiments; it is reached, and the experiment ``edgeopt`` made there, at once.

    Args:
        uri: ``sqlite:////path``, ``http://host:5000`` or what else MLflow takes; empty: as MLflow is set up.

    Attributes:
        place: The address, without a password.

    Raises:
        UsageError: It cannot be used.
    """

    def __init__(self, uri: str = "") -> None:
        _prepare()
        import mlflow
        from mlflow import MlflowClient

        self._run_id, self._parent, self._open = "", "", False
        self._ids: dict[str, str] = {}
        self._told: dict[str, dict[str, Any]] = {}
        try:
            address = uri or mlflow.get_tracking_uri()
            self.place = f"MLflow at {without_password(address)}"
            self._client = MlflowClient(tracking_uri=address)
            self._experiment = self._experiment_id(_artifacts(address))
        except Exception as error:  # of MLflow, a database or a connection: all of them mean the same to the user
            raise UsageError(
                f"MLflow at {without_password(uri) or 'its own address'} cannot be used: {in_short(error)}.",
                remedy="Say --log-to mlflow:sqlite:////path/mlflow.db or mlflow:http://host:5000.",
            ) from None

    def saved(self, record: RunRecord) -> None:
        """Tell it what is new: the run, its variants and their figures, and its end."""
        self._find(record)
        self._tell(self._parent, run_entry(record))
        for entry in variant_entries(record):
            self._tell(self._child(entry), entry)
        self._trials(record)
        if record.state in _STATES:
            self._close(record.selection is not None, _STATES[record.state])

    def ended(self, record: RunRecord, page: str) -> None:
        """Add the report and the model card."""
        self._find(record)
        self._client.log_text(self._parent, page, "report.html")
        self._client.log_text(self._parent, render_card(record), "model_card.md")

    def left(self) -> None:
        """Mark a run that has not ended as killed; who takes it up again finds it."""
        if self._open:
            self._close(False, "KILLED")

    def keep(self, whole: Entry, parts: Sequence[Entry]) -> None:
        """Something that was tried outside of a run, all at once: one of MLflow's runs with a child for each part."""
        self._parent = self._create(whole.name, time.time(), {"mlflow.source.name": "edgeopt"})
        self._tell(self._parent, whole)
        for part in parts:
            self._tell(self._child(part), part)
        self._close(True, "FAILED" if any(part.failed for part in parts) else "FINISHED")

    def _experiment_id(self, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
        return str(found.experiment_id)

    def _find(self, record: RunRecord) -> None:
        """The run of MLflow that is this one: an earlier one of the same id where there is one, else a new one."""
        if record.run_id == self._run_id:
            return
        self._ids = {}  # names of variants are those of one run
        known = self._search(f"tags.`edgeopt.run_id` = '{record.run_id}'")
        if known:
            self._parent = self._know(known[0])
            self._client.update_run(self._parent, status="RUNNING")
            for child in self._search(f"tags.`mlflow.parentRunId` = '{self._parent}'"):
                self._ids[child.info.run_name] = self._know(child)
        else:
            tags = {"edgeopt.run_id": record.run_id, "mlflow.source.name": "edgeopt"}
            self._parent = self._create(record.run_id, record.started_at, tags)
        self._run_id, self._open = record.run_id, True

    def _search(self, words: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], words, max_results=1000))

    def _know(self, run: Any) -> str:
        """What an earlier process told; MLflow refuses a parameter that changes."""
        data = run.data
        self._told[run.info.run_id] = {f"p {name}": value for name, value in data.params.items()}
        return str(run.info.run_id)

    def _create(self, name: str, started_at: float, tags: dict[str, str]) -> str:
        start_ms = int(started_at * 1000)
        made = self._client.create_run(self._experiment, start_time=start_ms, tags=tags, run_name=name)
        return str(made.info.run_id)

    def _child(self, entry: Entry) -> str:
        if entry.name not in self._ids:
            tags = {"mlflow.parentRunId": self._parent}
            self._ids[entry.name] = self._create(entry.name, time.time(), tags)
        return self._ids[entry.name]

    def _tell(self, run_id: str, entry: Entry) -> None:
        """What differs from what was told last, in one request."""
        from mlflow.entities import Metric, Param, RunTag

        told = self._told.setdefault(run_id, {})
        now = int(time.time() * 1000)
        params = [Param(name, value) for name, value in entry.params.items() if f"p {name}" not in told]
        metrics = [Metric(n, value, now, 0) for n, value in entry.metrics.items() if told.get(f"m {n}") != value]
        tags = [RunTag(name, value) for name, value in entry.tags.items() if told.get(f"t {name}") != value]
        if params or metrics or tags:
            self._client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        told.update({f"p {one.key}": one.value for one in params})
        told.update({f"m {name}": value for name, value in entry.metrics.items()})
        told.update({f"t {name}": value for name, value in entry.tags.items()})
        told["failed"] = entry.failed

    def _trials(self, record: RunRecord) -> None:
        """The search as a curve: a step for each trial that ran, once the objective's unit is known."""
        if record.selection is None or not record.trials or "trials" in self._told[self._parent]:
            return
        from mlflow.entities import Metric

        in_bytes = record.selection.budget.objective in ("memory", "size")
        name, scale = ("trial_mib", 1 / (1 << 20)) if in_bytes else ("trial_ms", 1e-6)
        now = int(time.time() * 1000)
        ran = [one for one in record.trials if one.measured]
        points = [Metric(name, one.objectives[0] * scale, now, one.number) for one in ran]
        points += [Metric("trial_drop", one.objectives[1], now, one.number) for one in ran]
        for start in range(0, len(points), 1000):  # as many as MLflow takes at once
            self._client.log_batch(self._parent, metrics=points[start : start + 1000])
        self._told[self._parent]["trials"] = len(ran)

    def _close(self, decided: bool, state: str) -> None:
        """End the run and its children; what was left out counts as failed once the run has decided."""
        for run_id in self._ids.values():
            failed = self._told.get(run_id, {}).get("failed", False)
            self._client.set_terminated(run_id, "FAILED" if failed else state if not decided else "FINISHED")
        self._client.set_terminated(self._parent, state)
        self._open = False


def _prepare() -> None:
    """What MLflow reads when it is imported; what the user has set stays, but for its telemetry, which is off."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def _artifacts(address: str) -> str | None:
    """Where files go: beside a database that is a file; MLflow would take the folder that one happens to be in."""
    if not address.startswith("sqlite:///"):
        return None
    return (Path(address.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
