"""`edgeopt fleet history`, `report`, `exporter` and `audit`: what happened, for people and for machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import options, output
from edgeopt.errors import EXIT_USER

audit = typer.Typer(no_args_is_help=True, help="The log of who did what: show it, verify its chain.")


def history(
    what: Annotated[str, typer.Argument(metavar="[BOARD|APP]", help="Only of this board or app.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest this many.")] = 20,
    as_json: options.Json = False,
) -> None:
    """List rollouts, newest first; of a board also how each went there."""
    from edgeopt import documents
    from edgeopt.workflow.fleet.rollouts import history_of
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = history_of(what, workspace, limit=limit)
    if as_json:
        rows = [
            {**documents.plain(one), **({"board": documents.plain(board)} if board else {})} for one, board in found
        ]
        output.print_json({"rollouts": rows})
        return
    from edgeopt.report.fleet_history import print_history

    print_history(found, output.console())


def report(
    rollout: Annotated[str, typer.Argument(metavar="[ROLLOUT]", help="Its id, APP, APP@VERSION or last.")] = "last",
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="Where to write the page.")] = "rollout.html",
    as_json: options.Json = False,
) -> None:
    """Write the self-contained page of a rollout: waves, gates, before and after of each board."""
    from edgeopt.documents import write_atomically
    from edgeopt.report.fleet_page import render_rollout
    from edgeopt.workflow.fleet.auditing import log_of
    from edgeopt.workflow.fleet.rollouts import find_rollout
    from edgeopt.workflow.workspace import Workspace

    output.require_writable(Path(html), "--html")
    with Workspace.open() as workspace:
        found = find_rollout(rollout, workspace)
        log = log_of(found.rollout_id, workspace)
    command = next((entry.why for entry in log if entry.what == "rollout.start"), "")
    write_atomically(Path(html), render_rollout(found, command=command, log=log).encode())
    if as_json:
        output.print_json({"rollout": found.rollout_id, "html": html})
        return
    output.console().print(f"{html} written (rollout {found.rollout_id}).", soft_wrap=True)


def exporter(
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where Prometheus asks.")] = (
        "127.0.0.1:9460"
    ),
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and leave.")] = False,
    textfile: Annotated[
        str | None, typer.Option("--textfile", metavar="FILE.prom", help="Write them once, for node_exporter.")
    ] = None,
) -> None:
    """Prometheus metrics of rollouts and boards, from what is known here; boards are not asked (see fleet status)."""
    from edgeopt.workflow.fleet import exporting
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        if textfile is not None:
            exporting.write_metrics(workspace, Path(textfile))
            return
        if once:
            sys.stdout.write(exporting.metrics(workspace))
            return
        with exporting.Exporter(workspace, listen) as server:
            host, port = exporting.parse_address(listen)[0], server.server_port
            said = "" if exporting.is_loopback(host) else " Everybody who reaches that address can read them."
            sys.stderr.write(f"Metrics are at http://{host}:{port}/metrics; Ctrl-C ends.{said}\n")
            server.serve_forever(poll_interval=0.5)


@audit.command("show")
def show_log(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest this many.")] = 40,
    what: Annotated[str, typer.Option("--what", help="Only kinds that begin so: rollout, publish, keys.")] = "",
    as_json: options.Json = False,
) -> None:
    """Show the newest lines. Each is written before the deed; where nothing came of it, a second one says why."""
    from edgeopt import documents
    from edgeopt.workflow.fleet.auditing import audit_log
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = [entry for entry in audit_log(workspace).entries() if entry.what.startswith(what)][-limit:]
    if as_json:
        output.print_json({"entries": [documents.plain(entry) for entry in found]})
        return
    from edgeopt.report.fleet_history import print_log

    print_log(found, output.console())


@audit.command()
def verify(
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="HASH", help="A line's hash that you noted: it must be there.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check the chain; names the first line that was edited, moved, taken out or cut off. Ends with 2 where one was."""
    from edgeopt.report.layout import text
    from edgeopt.workflow.fleet.auditing import verify_log
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        verdict = verify_log(workspace, expect)
    if as_json:
        fields = {"ok": verdict.ok, "lines": verdict.lines, "head": verdict.head}
        output.print_json({**fields, "broken": verdict.broken, "reason": verdict.reason})
    elif verdict.ok and not verdict.lines:
        output.console().print("The log is empty.")
    elif verdict.ok:
        output.console().print(text(f"{verdict.lines} lines, all fit. {verdict.reason}".strip()))
        output.console().print(text(f"Last: {verdict.head} (keep it elsewhere; --expect asks for it)"), soft_wrap=True)
    else:
        output.console().print(text(f"Line {verdict.broken} does not fit: {verdict.reason}.", "bold red"))
    if not verdict.ok:
        raise typer.Exit(EXIT_USER)
