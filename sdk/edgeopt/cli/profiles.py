"""`edgeopt profiles`: the kinds of hardware that edgeopt knows."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeopt.cli import options, output

app = typer.Typer(help="Hardware profiles: list them, show one.", invoke_without_command=True)


@app.callback()
def list_profiles(context: typer.Context, as_json: options.Json = False) -> None:
    """List the profiles."""
    if context.invoked_subcommand is not None:
        return
    from edgeopt_targets.profile_files import load_profiles

    found = load_profiles()
    if as_json:
        from edgeopt import documents

        output.print_json({"profiles": [documents.plain(profile) for profile in found]})
        return
    from edgeopt.report.terminal import print_profiles

    print_profiles(found, output.console())


@app.command()
def show(name: Annotated[str, typer.Argument(help="The profile's name.")]) -> None:
    """Everything that a profile says, as JSON."""
    from edgeopt_targets.profile_files import find_profile

    output.print_json(find_profile(name))
