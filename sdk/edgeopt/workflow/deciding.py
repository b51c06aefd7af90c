"""Finds a run of the ledger, decides again from what it measured, and compares it with another."""

from __future__ import annotations

import dataclasses

from edgeopt.core.budget import Budget
from edgeopt.core.group import GroupRecord
from edgeopt.core.run import RunRecord
from edgeopt.core.run_comparison import RunComparison
from edgeopt.errors import StoreError, UsageError
from edgeopt.selection.comparing_runs import compare_runs
from edgeopt.selection.select import select
from edgeopt.workflow.workspace import Workspace


def find_run(name: str, workspace: Workspace) -> RunRecord:
    """The record of a run; ``last`` is the newest one that has any.

    Raises:
        StoreError: There is no such run.
    """
    if name != "last":
        if kinds := workspace.ledger.group(name):
            listed = ", ".join(run.run_id for run in kinds)
            raise StoreError(f"run {name!r} is for {len(kinds)} kinds of boards.", remedy=f"Name one: {listed}.")
        return workspace.ledger.run(name)
    for summary in workspace.ledger.runs():
        if summary.model:
            return workspace.ledger.run(summary.run_id)
    raise StoreError("there is no run yet.", remedy="Start one: edgeopt deploy model.onnx --target local.")


def find_group(name: str, workspace: Workspace) -> GroupRecord | None:
    """A run for several boards by its name, or by ``last`` where it is the newest; ``None`` where that is another run.

    Raises:
        StoreError: Its records cannot be decoded.
    """
    if name == "last":
        newest = next((one for one in workspace.ledger.runs() if one.model), None)
        if newest is None or "." not in newest.run_id:
            return None
        name = newest.run_id.partition(".")[0]
    runs = workspace.ledger.group(name)
    return GroupRecord(name, runs) if runs else None


def reselect(name: str, budget: Budget, workspace: Workspace) -> RunRecord:
    """The same measurements judged under another budget; the ledger keeps the run as it was.

    Raises:
        StoreError: There is no such run, or it measured nothing.
    """
    record = find_run(name, workspace)
    if record.selection is None:
        raise StoreError(f"run {record.run_id} measured nothing.", remedy="Run it again: " + record.command)
    candidates = [assessment.candidate for assessment in record.selection.assessments]
    selection = select(candidates, budget, noise=record.selection.noise)
    state = "done" if selection.winner else "infeasible"
    return dataclasses.replace(record, selection=selection, state=state, deployment=None)


def compare(before: str, after: str, workspace: Workspace) -> RunComparison:
    """What changed from one run to another, of whatever model and device they are.

    Args:
        before, after: Ids, or ``last``.
        workspace: Where the runs are.

    Raises:
        StoreError: There is no such run, or it has not chosen.
        UsageError: Both are the same run.
    """
    one, other = find_run(before, workspace), find_run(after, workspace)
    if one.run_id == other.run_id:
        raise UsageError(f"both runs are {one.run_id}.", remedy="Name two; edgeopt runs lists them.")
    for record in (one, other):
        if record.selection is None:
            raise StoreError(
                f"run {record.run_id} ({record.state}) has not chosen, so there is nothing to compare.",
                remedy=f"The same command goes on with it: {record.command}",
            )
    return compare_runs(one, other)
