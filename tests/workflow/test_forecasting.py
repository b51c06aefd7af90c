"""What is measured first is what the ledger expects to be fast; what was expected is told beside what came."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import edgeopt
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.core.variant import Variant
from edgeopt.core.work import Machine, Observation
from edgeopt.core.work import Task as Work
from edgeopt.graph.work import work_of
from edgeopt.report.terminal import print_run
from support.workflow import Computer, Heard, Task, known_variants

BEFORE = Machine("another board", "x86_64", ("avx2",), cores=2)


def teach(workspace: edgeopt.Workspace, network: Path, variants: dict[str, Variant], fast: str) -> None:
    """Launches of other networks on another board, on which one form of each took a tenth of the others."""
    forms = {BASELINE.name: work_of(network)} | {name: variant.work for name, variant in variants.items()}
    for number in range(6):
        for name, work in forms.items():
            assert work is not None
            taken = 1e6 * (1 + number) * {fast: 0.1, BASELINE.name: 2.0}.get(name, 1.0)
            row = Observation(f"net {number}", name, Work(work, Settings(), BEFORE), taken)
            workspace.ledger.remember_observation(f"{number} {name}", row)


@pytest.mark.parametrize("fast", ["int8-minmax", "optimised"])
def test_the_ledger_decides_what_is_measured_first(
    computer: Computer, workspace: edgeopt.Workspace, task: Task, fast: str
) -> None:
    teach(workspace, task.network, known_variants(workspace), fast)
    heard = Heard()
    record = edgeopt.deploy(task.request(), workspace, listener=heard)
    measured = [line.split()[1] for line in heard.lines if line.startswith("Measuring: ")]
    other = {"int8-minmax": "optimised", "optimised": "int8-minmax"}[fast]
    assert measured == [BASELINE.name, fast, other]
    assert record.forecast is not None
    assert (record.forecast.basis, record.forecast.rows) == ("ridge regression", 18)
    expected = {one.key.split()[0]: one.predicted_ns for one in record.forecast.predictions}
    assert expected[fast] < expected[other]


def test_an_empty_ledger_counts_and_what_is_measured_teaches_the_next_run(
    computer: Computer, workspace: edgeopt.Workspace, task: Task
) -> None:
    record = edgeopt.deploy(task.request(), workspace)
    assert record.forecast is not None
    assert (record.forecast.basis, record.forecast.rows) == ("roofline", 0)
    assert {one.key for one in record.forecast.predictions} == {
        f"{name} / 1 thread" for name in (BASELINE.name, *task.request().recipes)
    }
    correlation = record.forecast.correlation
    assert correlation is not None
    assert -1 <= correlation <= 1
    stream = StringIO()
    print_run(workspace.ledger.run(record.run_id), Console(file=stream, width=200))
    assert f"a forecast by roofline; rank correlation {correlation:.2f} over 3 first launches" in stream.getvalue()
    seen = workspace.ledger.observations()
    assert {row.variant for row in seen} == {variant.artifact.digest for variant in record.variants}
    for row in seen:
        assert row.model == record.model.artifact.digest
        assert row.task.machine.fingerprint == record.facts.fingerprint
        assert 0 < row.latency_ns < math.inf
