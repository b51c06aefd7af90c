"""`edgeopt fleet offer` and `mender-module`: for boards that fetch releases by themselves, or by another server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgeopt.cli import options, output

Release = Annotated[str, typer.Argument(metavar="APP@VERSION", help="A published release.")]


def offer(
    release: Release,
    to: Annotated[str, typer.Option("--to", metavar="SELECTOR", help="all, or label=value with commas between.")],
    fraction: Annotated[str, typer.Option("--fraction", help="Share of those boards that take it now: 10%.")] = "100%",
    not_before: Annotated[
        str | None, typer.Option("--not-before", metavar="TIME", help="2026-12-01T02:00, your time.")
    ] = None,
    window: Annotated[
        str | None, typer.Option("--window", help="mon-fri 01:00-04:30, by each board's own clock.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Bring the tree to this store, too.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Offer a release to boards that pull; a larger fraction later adds boards to those that have it."""
    import time

    from edgeopt.fleet.windows import parse_window
    from edgeopt.publishing import offers
    from edgeopt.workflow.fleet.offering import offer as sign
    from edgeopt.workflow.workspace import Workspace

    terms = offers.Terms(
        labels=offers.labels_of(to),
        fraction_per_10000=offers.fraction_of(fraction),
        not_before=offers.moment_of(not_before, time.time()) if not_before else 0,
        window=parse_window(window) if window else None,
    )
    with Workspace.open() as workspace:
        done = sign(release, terms, workspace, to=store or "")
    if as_json:
        output.print_json(done)
        return
    share = f"{done.terms.fraction_per_10000 / 100:g} % of"
    again = "now" if done.widened else "from their next poll on"
    console = output.console()
    console.print(f"{release} is offered to {share} {to}, {again} (rollout {done.terms.rollout_id}).", soft_wrap=True)
    if done.pushed is None:
        console.print("Boards see it once the tree is in their store: give --store URL.", soft_wrap=True)
    else:
        console.print(f"{done.pushed.sent_bytes} bytes went to {done.pushed.url}.", soft_wrap=True)


def mender_module(
    root: Annotated[str, typer.Option("--root", help="The runner's root on the boards.")] = "/var/lib/edgeopt",
    python: Annotated[str, typer.Option("--python", help="Interpreter on the boards.")] = "python3",
    release: Annotated[
        str | None, typer.Option("--release", metavar="APP@VERSION", help="Print the command that makes its artifact.")
    ] = None,
    device_type: Annotated[str, typer.Option("--device-type", help="Of the artifact, as Mender knows it.")] = "any",
) -> None:
    """Print Mender's update module for boards, or the mender-artifact command of a release."""
    from edgeopt.publishing import mender
    from edgeopt.workflow.fleet.tree import tree_folder
    from edgeopt.workflow.workspace import Workspace

    if release is None:
        sys.stdout.write(mender.module_script(root, python))
        return
    app, _, version = release.partition("@")
    with Workspace.open() as workspace:
        files = mender.artifact_files(tree_folder(workspace), app, version)
    sys.stdout.write(mender.artifact_command(files, app, version, device_type) + "\n")
