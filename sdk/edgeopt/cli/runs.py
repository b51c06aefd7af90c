"""`edgeopt runs`: what was run before."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeopt.cli import options, output

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
    from edgeopt.workflow.deciding import find_run
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        record = find_run(run, workspace)
        page = workspace.run_folder(record.run_id) / "report.html"
    if as_json:
        output.print_json(record)
        return
    from edgeopt.report.terminal import print_run

    print_run(record, output.console(), report=page)
