"""`edgeopt recipes`: the recipes that ship, and when each wins."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgeopt.cli import options, output


def recipes(
    file: Annotated[str | None, typer.Argument(help="A file of your own: checked and listed.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the recipes that ship, or those of a file, each with its passes and when it wins."""
    from pathlib import Path

    from edgeopt.passes.recipe_files import read_recipes, shipped_recipes

    found = read_recipes(Path(file)) if file else shipped_recipes()
    if as_json:
        from edgeopt import documents

        output.print_json({"recipes": [documents.plain(one) for one in found]})
        return
    for one in found:
        passes = " > ".join(_step(spec.name, dict(spec.options)) for spec in one.recipe.passes)
        sys.stdout.write(f"{one.recipe.name}\n{output.indented(passes)}")
        sys.stdout.write(output.indented(one.when) if one.when else "")


def _step(name: str, chosen: dict[str, object]) -> str:
    said = ", ".join(f"{option}={value}" for option, value in chosen.items())
    return f"{name}({said})" if said else name
