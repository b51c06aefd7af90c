"""`edgeopt profiles`: the kinds of hardware that edgeopt knows."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import options, output

app = typer.Typer(help="Hardware profiles: list, show, check one; their schema.", invoke_without_command=True)


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
    found = profile_files.outlines()
    column = max(len(name) for name, _, _ in found) + 2
    for name, description, recipes in found:
        sys.stdout.write(_entry(name, f"{description}. Tries: {', '.join(recipes)}.", column, width) + "\n")


def _entry(name: str, what: str, column: int, width: int) -> str:
    """Name and text in two columns; plain, since a table would take longer to import than to print."""
    return textwrap.fill(f"{name:{column}}{what}", max(width, 2 * column), subsequent_indent=" " * column)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A profile's name, or the path of a profile file.")],
    as_json: options.Json = False,
) -> None:
    """Everything that a profile says, with what it takes from those it extends, and the source of each fact."""
    from edgeopt import documents
    from edgeopt_targets import profile_files

    if as_json:
        output.print_json(profile_files.find_profile(name))
        return
    path = profile_files.profile_path(name)
    profile_files.read_profile(path)  # a file that is not right is not shown as if it were
    whole = profile_files.merged(path)
    sources = {"sources": whole.pop("sources", {})}
    sys.stdout.write(documents.yaml_text(whole, compact=True) + documents.yaml_text(sources))


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Profile files (YAML).", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Say all that is wrong with profile files: file, line, place, value and remedy."""
    from edgeopt.errors import EXIT_USER
    from edgeopt_targets.profile_files import profiles_folder
    from edgeopt_targets.profile_problems import find_problems

    found = [problem for path in files for problem in find_problems(path, profiles_folder())]
    if as_json:
        from edgeopt import documents

        output.print_json({"problems": [documents.plain(problem) for problem in found]})
    else:
        wrong = {problem.file for problem in found}
        lines = [f"{problem.message} {problem.remedy}".rstrip() for problem in found]
        lines += [f"{path}: right" for path in files if str(path) not in wrong]
        sys.stdout.write("\n".join(lines) + "\n")
    if found:
        raise typer.Exit(EXIT_USER)


@app.command()
def schema() -> None:
    """Print the JSON Schema of profile files, for editors: edgeopt profiles schema > schema.json."""
    from edgeopt_targets.profile_document import schema_text

    sys.stdout.write(schema_text())
