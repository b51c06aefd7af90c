"""`edgeopt runs`: what was run before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.core.group import GroupRecord

app = typer.Typer(help="Earlier runs: list them, show one.", invoke_without_command=True)


@app.callback()
def list_runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest this many.")] = 20,
    as_json: options.Json = False,
) -> None:
    """List the newest runs."""
    if context.invoked_subcommand is not None:
        return
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = workspace.ledger.runs(limit)
    if as_json:
        from edgeopt import documents

        output.print_json({"runs": [documents.plain(run) for run in found]})
        return
    from edgeopt.report.listings import print_runs

    print_runs(found, output.console())


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's id, or last.")] = "last", as_json: options.Json = False
) -> None:
    """Show one run: the table, the decision, the reasons."""
    from edgeopt.workflow.deciding import find_group, find_run
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        if group := find_group(run, workspace):
            _show_group(group, workspace.run_folder(group.group) / "report.html", as_json=as_json)
            return
        record = find_run(run, workspace)
        page = workspace.run_folder(record.run_id) / "report.html"
    if as_json:
        output.print_json(record)
        return
    from edgeopt.report.terminal import print_run

    print_run(record, output.console(), report=page)


def _show_group(group: GroupRecord, page: Path, *, as_json: bool) -> None:
    if as_json:
        from edgeopt.cli.run_output import group_document

        output.print_json(group_document(group))
        return
    from edgeopt.report.kinds_terminal import print_kinds

    print_kinds(group, output.console(), report=page)
