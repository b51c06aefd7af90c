"""`edgeopt fleet offer`, `offers` and `mender-module`: for boards that fetch releases, or are sent them by others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.publishing.tree import Pushed

Release = Annotated[
    str, typer.Argument(metavar="APP@VERSION", help="A published release; to withdraw an offer APP is enough.")
]


def offer(
    release: Release,
    to: Annotated[
        str, typer.Option("--to", metavar="SELECTOR", help="Needed: all, or label=value with commas between.")
    ] = "",
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
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="Also where only boards that other computers enrolled can fit.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take the offer back: boards that have the release keep it.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Offer a release to boards that pull; a larger fraction later adds boards to those that have it."""
    import time

    from edgeopt.errors import UsageError
    from edgeopt.fleet.windows import parse_window
    from edgeopt.publishing import offers
    from edgeopt.workflow.fleet.offering import offer as sign
    from edgeopt.workflow.workspace import Workspace

    if withdraw:
        _withdraw(release, store or "", as_json=as_json)
        return
    if not to:
        raise UsageError("an offer needs --to.", remedy="Say --to all, or --to label=value: edgeopt fleet offers.")
    terms = offers.Terms(
        labels=offers.labels_of(to),
        fraction_per_10000=offers.fraction_of(fraction),
        not_before=offers.moment_of(not_before, time.time()) if not_before else 0,
        window=parse_window(window) if window else None,
    )
    with Workspace.open() as workspace:
        done = sign(release, terms, workspace, to=store or "", elsewhere=elsewhere)
    if as_json:
        output.print_json(done)
        return
    share = f"{done.terms.fraction_per_10000 / 100:g} % of"
    again = "now" if done.widened else "from their next poll on"
    console = output.console()
    console.print(f"{release} is offered to {share} {to}, {again} (rollout {done.terms.rollout_id}).", soft_wrap=True)
    _say_stored(done.pushed)


def _say_stored(pushed: Pushed | None) -> None:
    said = "Boards see it once the tree is in their store: give --store URL."
    if pushed is not None:
        said = f"{pushed.sent_bytes} bytes went to {pushed.url}."
    output.console().print(said, soft_wrap=True)


def _withdraw(name: str, store: str, *, as_json: bool) -> None:
    from edgeopt.workflow.fleet.offering import withdraw
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        offered, pushed = withdraw(name, workspace, to=store)
    release = f"{offered.app}@{offered.release}"
    if as_json:
        from edgeopt import documents

        output.print_json({"withdrawn": release, "pushed": documents.plain(pushed) if pushed else None})
        return
    output.console().print(f"{release} is offered no more; boards that have it keep it.", soft_wrap=True)
    _say_stored(pushed)


def offers(as_json: options.Json = False) -> None:
    """List what boards that pull are offered."""
    from edgeopt.core.fleet import Window
    from edgeopt.fleet.windows import window_text
    from edgeopt.workflow.fleet.offering import standing_offers
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        found = standing_offers(workspace)
    if as_json:
        documents = [{**one.offer._asdict(), "boards": list(one.boards), "fitting": one.fitting} for one in found]
        output.print_json({"offers": documents})
        return
    from edgeopt.report.fleet_offers import print_offers

    windows = [window_text(Window(*one.offer.window)) if one.offer.window else "" for one in found]
    rows = [(one.offer, window, len(one.boards), one.fitting) for one, window in zip(found, windows, strict=True)]
    print_offers(rows, output.console())


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
