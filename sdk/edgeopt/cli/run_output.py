"""Runs the main job for a command and shows what came out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeopt import documents
from edgeopt.cli import output
from edgeopt.core.group import GroupRecord
from edgeopt.core.run import RunRecord
from edgeopt.errors import BudgetError, DeviceError, EdgeoptError, UsageError
from edgeopt.workflow.request import Request

if TYPE_CHECKING:
    from edgeopt.workflow.tracking.tracker import Tracker


def run_and_show(request: Request, *, html: str | None, log_to: str | None = None, as_json: bool, quiet: bool) -> None:
    """Do the run; print tables or JSON; write the page.

    Raises:
        BudgetError: Nothing meets the budget. What was found is printed all the same.
        DeviceError: Of several boards one dropped out. Likewise.
        UsageError: A place that the run shall go to cannot be used.
    """
    from edgeopt.workflow.deploying import deploy
    from edgeopt.workflow.resolving import names_several
    from edgeopt.workflow.tracking.mlflow_tracker import tracker_for
    from edgeopt.workflow.workspace import Workspace

    if html is not None:
        output.require_writable(Path(html), "--html")
    tracker = tracker_for(log_to) if log_to is not None else None
    if names_several(request.target):
        _run_kinds(request, tracker, html=html, as_json=as_json, quiet=quiet)
        return
    if request.one_for_all:
        raise UsageError(
            f"--one-for-all is for several boards; --target is {request.target}.",
            remedy="Name several: a,b or label=shop.",
        )
    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        record = deploy(request, workspace, listener=progress, tracker=tracker)
        page = workspace.run_folder(record.run_id) / "report.html"
    if html is not None:
        Path(html).write_bytes(page.read_bytes())
        page = Path(html)
    show(record, page, as_json=as_json)


def _run_kinds(request: Request, tracker: Tracker | None, *, html: str | None, as_json: bool, quiet: bool) -> None:
    from edgeopt.workflow.kinds.deploying import deploy_kinds
    from edgeopt.workflow.tracking.tracker import Forgiving, tell
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        record = deploy_kinds(request, workspace, listener=progress)
        page = workspace.run_folder(record.group) / "report.html"
        if tracker is not None:
            for run in record.runs:
                own, told = workspace.run_folder(run.run_id) / "report.html", Forgiving(tracker, progress)
                tell(told, run, own.read_text(encoding="utf-8"))
                told.left()
    if html is not None:
        Path(html).write_bytes(page.read_bytes())
        page = Path(html)
    show_kinds(record, page, as_json=as_json)


def group_document(record: GroupRecord) -> dict[str, Any]:
    """A run for several boards as JSON, with what follows from its kinds."""
    follows = {"state": record.state, "lost": record.lost, "unreached": record.unreached}
    return {**documents.plain(record), **follows}


def show_kinds(record: GroupRecord, page: Path, *, as_json: bool) -> None:
    """Print a run for several boards, and raise where its outcome is not success; a lost board goes first."""
    if as_json:
        output.print_json(group_document(record))
    else:
        from edgeopt.report.kinds_terminal import print_kinds

        print_kinds(record, output.console(), report=Path(output.display_path(page)))
    problem: EdgeoptError | None = None
    if record.state == "incomplete":
        missing = f"; {', '.join(record.incomplete)} has no winner yet" if record.incomplete else ""
        problem = DeviceError(
            f"{len(record.lost)} of the boards dropped out: {', '.join(record.lost)}{missing}.",
            remedy="Nothing is lost: the same command goes on once they are back.",
        )
    elif record.state == "infeasible":
        kinds = ", ".join(run.profile_name for run in record.runs if run.state == "infeasible")
        problem = BudgetError(f"no variant meets the budget on {kinds}.", remedy="Loosen the limit that is missed.")
    if problem is not None and as_json:
        raise typer.Exit(problem.exit_code)
    if problem is not None:
        raise problem


def show(record: RunRecord, page: Path, *, as_json: bool) -> None:
    """Print a run, and raise where its outcome is not success."""
    if as_json:
        output.print_json(record)
    else:
        from edgeopt.report.terminal import print_run

        console = output.console()
        print_run(record, console, report=Path(output.display_path(page)))
    if record.state != "infeasible":
        return
    if as_json:
        raise typer.Exit(BudgetError.exit_code)
    best = next(iter(sorted(page.parent.glob("best.[!j]*"))), page.parent)
    raise BudgetError(
        "no variant meets the budget on this device.",
        remedy=f"The best so far is {output.display_path(best)}; loosen the limit that it misses.",
    )
