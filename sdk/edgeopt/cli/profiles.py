"""`edgeopt profiles`: the kinds of hardware that edgeopt knows."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Annotated

import typer

from edgeopt.cli import options, output

_COLUMN = 12

app = typer.Typer(help="Hardware profiles: list them, show one.", invoke_without_command=True)


@app.callback()
def list_profiles(context: typer.Context, as_json: options.Json = False) -> None:
    """List the profiles."""
    if context.invoked_subcommand is not None:
        return
    from edgeopt_targets import profile_files

    if as_json:
        from edgeopt import documents

        output.print_json({"profiles": [documents.plain(profile) for profile in profile_files.load_profiles()]})
        return
    width = shutil.get_terminal_size().columns
    for name, description, recipes in profile_files.outlines():
        sys.stdout.write(_entry(name, f"{description}. Tries: {', '.join(recipes)}.", width) + "\n")


def _entry(name: str, what: str, width: int) -> str:
    """Name and text in two columns; plain, since a table would take longer to import than to print."""
    return textwrap.fill(f"{name:{_COLUMN}}{what}", width, subsequent_indent=" " * _COLUMN)


@app.command()
def show(name: Annotated[str, typer.Argument(help="The profile's name.")], as_json: options.Json = False) -> None:
    """Everything that a profile says, as its file has it."""
    from edgeopt_targets.profile_files import find_profile, profiles_folder

    profile = find_profile(name)
    if as_json:
        output.print_json(profile)
        return
    sys.stdout.write((profiles_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
