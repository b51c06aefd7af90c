"""`edgeopt publish` and `edgeopt releases`: signed releases, made of what runs chose."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgeopt.cli import options, output
from edgeopt.errors import UsageError

app = typer.Typer(help="What is published: list it, show one release.", invoke_without_command=True)

Release = Annotated[str, typer.Argument(metavar="APP@VERSION", help="For example detector@1.4.0.")]


def publish(
    release: Release,
    runs: Annotated[
        list[str] | None, typer.Option("--from", metavar="RUN", help="A run's id or last; again for each profile.")
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", metavar="PROFILE=RUN", help="This run for that profile.")
    ] = None,
    expires: Annotated[str, typer.Option("--expires", help="No board begins to install it after: 90d.")] = "90d",
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", metavar="VERSION", help="No board may go back to it any more.")
    ] = None,
    restore: Annotated[
        str, typer.Option("--restore", metavar="VERSION", help="Publish that version's content again: a downgrade.")
    ] = "",
    margin: Annotated[
        str, typer.Option("--margin", help="What a board may show beyond what was measured: p95 and memory.")
    ] = "50%",
    max_slower: Annotated[
        str | None, typer.Option("--max-slower", help="The same for the latency alone.  [default: --margin]")
    ] = None,
    notes: Annotated[str, typer.Option("--notes", help="For people.")] = "",
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="Bring the tree to a store that boards pull from, too.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="With --to: read what the store has, and send again what is damaged.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Sign what runs chose as one release: for each profile its winner, and what every board must measure of it."""
    from edgeopt.cli import fleet_quantities as quantities
    from edgeopt.workflow.fleet import publishing
    from edgeopt.workflow.fleet.composing import ReleaseRequest, split_name
    from edgeopt.workflow.workspace import Workspace

    if verify and not to:
        raise UsageError("--verify is of a store.", remedy="Name it: --to URL.")
    name, version = split_name(release)
    request = ReleaseRequest(
        app=name,
        version=version,
        runs=tuple(runs or ()),
        profiles=quantities.parse_pairs(profile or [], "--profile"),
        expires_seconds=quantities.parse_span(expires, "--expires"),
        revoke=tuple(revoke or ()),
        restore=restore,
        margin=quantities.parse_share(margin, "--margin", most=100.0),
        max_slower=None if max_slower is None else quantities.parse_share(max_slower, "--max-slower", most=100.0),
        notes=notes,
    )
    with Workspace.open() as workspace:
        done = publishing.publish(request, workspace)
        pushed = _store(workspace, to, verify=verify) if to else None
    if as_json:
        output.print_json({**_plain(done), **({"stored": pushed} if pushed else {})})
        return
    _say(done, pushed)


def _store(workspace: Any, url: str, *, verify: bool) -> dict[str, Any]:
    from edgeopt import documents
    from edgeopt.workflow.fleet.auditing import audit_log, deed
    from edgeopt.workflow.fleet.storing import store

    with deed(audit_log(workspace), "publish.store", url):
        return {"url": url, **documents.plain(store(workspace, url, verify=verify))}


def _plain(done: Any) -> dict[str, Any]:
    from edgeopt import documents

    return {
        "release": documents.plain(done.release),
        "manifest": done.manifest,
        "target": done.target,
        "new": done.new,
        "install_bytes": done.install_bytes,
    }


def _say(done: Any, pushed: dict[str, Any] | None) -> None:
    from edgeopt.report.releases import print_release

    console = output.console()
    if not done.new:
        console.print(f"{done.release.name} is published already, with this content; nothing was done.")
    print_release(done.release, done.manifest, console)
    if pushed:
        console.print(f"The tree is at {pushed['url']}.", soft_wrap=True)
    console.print(f"Next: edgeopt fleet update {done.release.name} --to all --plan", soft_wrap=True)


@app.callback()
def list_releases(context: typer.Context, as_json: options.Json = False) -> None:
    """List what is published, newest first."""
    if context.invoked_subcommand is not None:
        return
    from edgeopt import documents
    from edgeopt.workflow.fleet.publishing import releases
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = releases(workspace)
    if as_json:
        output.print_json({"releases": [documents.plain(release) for release in found]})
        return
    from edgeopt.report.releases import print_releases

    print_releases(found, output.console())


@app.command("list")
def list_again(context: typer.Context, as_json: options.Json = False) -> None:
    """List what is published, newest first."""
    context.invoked_subcommand = None
    list_releases(context, as_json)


@app.command()
def show(
    release: Annotated[str, typer.Argument(metavar="APP[@VERSION]", help="Without a version the newest.")],
    as_json: options.Json = False,
) -> None:
    """Show one release: by profile its variant, its file and its limits."""
    from edgeopt.workflow.fleet.publishing import find_release
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = find_release(release, workspace)
    if as_json:
        output.print_json(_plain(found))
        return
    from edgeopt.report.releases import print_release

    print_release(found.release, found.manifest, output.console())
