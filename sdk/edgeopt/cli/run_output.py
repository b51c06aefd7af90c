"""Runs the main job for a command and shows what came out of it."""

from __future__ import annotations

from pathlib import Path

import typer

from edgeopt.cli import output
from edgeopt.core.run import RunRecord
from edgeopt.errors import BudgetError
from edgeopt.workflow.request import Request


def run_and_show(request: Request, *, html: str | None, log_to: str | None = None, as_json: bool, quiet: bool) -> None:
    """Do the run; print tables or JSON; write the page.

    Raises:
        BudgetError: Nothing meets the budget. What was found is printed all the same.
        UsageError: A place that the run shall go to cannot be used.
    """
    from edgeopt.workflow.deploying import deploy
    from edgeopt.workflow.tracking.mlflow_tracker import tracker_for
    from edgeopt.workflow.workspace import Workspace

    if html is not None:
        output.require_writable(Path(html), "--html")
    tracker = tracker_for(log_to) if log_to is not None else None
    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        record = deploy(request, workspace, listener=progress, tracker=tracker)
        page = workspace.run_folder(record.run_id) / "report.html"
    if html is not None:
        Path(html).write_bytes(page.read_bytes())
        page = Path(html)
    show(record, page, as_json=as_json)


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
