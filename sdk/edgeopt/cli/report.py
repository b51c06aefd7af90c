"""`edgeopt report`: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import options, output


def report(
    run: Annotated[str, typer.Argument(help="The run's id, or last.")] = "last",
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="Where to write the page.")] = "report.html",
    as_json: options.Json = False,
) -> None:
    """Write the self-contained page of a run: the picture, the table with reasons, the device, the provenance."""
    from edgeopt.documents import write_atomically
    from edgeopt.report.html import render_report
    from edgeopt.workflow.deciding import find_run
    from edgeopt.workflow.workspace import Workspace

    output.require_writable(Path(html), "--html")
    with Workspace.open() as workspace:
        record = find_run(run, workspace)
    write_atomically(Path(html), render_report(record).encode())
    if as_json:
        output.print_json({"run": record.run_id, "html": html})
        return
    output.console().print(f"{html} written (run {record.run_id}).", soft_wrap=True)
