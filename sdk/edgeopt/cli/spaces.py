"""`edgeopt spaces`: the search spaces that ship, or one of your own, and what they vary."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgeopt.cli import options, output


def spaces(
    file: Annotated[str | None, typer.Argument(help="A file of your own: checked and shown.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the spaces that edgeopt deploy --search takes, each with its choices."""
    from pathlib import Path

    from edgeopt.passes.space_files import read_space, shipped_spaces

    found = [(read_space(Path(file)), "")] if file else [(one.space, one.when) for one in shipped_spaces()]
    if as_json:
        from edgeopt import documents

        output.print_json({"spaces": [{**documents.plain(space), "when": when} for space, when in found]})
        return
    for space, when in found:
        sys.stdout.write(f"{space.name} ({space.size()} points)\n")
        if when:
            sys.stdout.write(output.indented(when))
        for choice in space.choices:
            values = ", ".join("leave out" if value is None else str(value) for value in choice.values)
            only = " and ".join(f"{name} is {' or '.join(map(str, these))}" for name, these in choice.when.items())
            sys.stdout.write(output.indented(f"{choice.name}: {values}" + (f" (only where {only})" if only else "")))
