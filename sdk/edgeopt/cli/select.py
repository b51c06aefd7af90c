"""`edgeopt select`: decide again from what a run measured, under another budget."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeopt.cli import options, output


def select(
    run: Annotated[str, typer.Argument(help="The run's id, or last.")] = "last",
    max_drop: Annotated[str | None, typer.Option("--max-drop", help="Largest loss of the metric: 1% or none.")] = None,
    max_latency: Annotated[str | None, typer.Option("--max-latency", help='20ms, or "p90 20 ms".')] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Limit on the worker's peak memory: 200MB.")
    ] = None,
    max_size: Annotated[str | None, typer.Option("--max-size", help="Limit on the model file: 5MB.")] = None,
    minimise: Annotated[str | None, typer.Option("--minimise", help="latency, memory, size or time-per-item.")] = None,
    as_json: options.Json = False,
) -> None:
    """Choose again without measuring again; nothing on the device changes."""
    from edgeopt.cli import request_options
    from edgeopt.cli.run_output import show
    from edgeopt.workflow.deciding import reselect
    from edgeopt.workflow.workspace import Workspace

    limits = {
        "max-drop": max_drop,
        "max-latency": max_latency,
        "max-memory": max_memory,
        "max-size": max_size,
        "minimise": minimise,
    }
    with Workspace.open() as workspace:
        budget = request_options.budget({key: value for key, value in limits.items() if value is not None})
        record = reselect(run, budget, workspace)
        page = workspace.run_folder(record.run_id) / "report.html"
    if as_json:
        output.print_json(record)
    else:
        show(record, page, as_json=False)
