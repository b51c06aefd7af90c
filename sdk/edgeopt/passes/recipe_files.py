"""Recipes by name: those that ship, and those of the user's own files."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from edgeopt import documents
from edgeopt.core.recipe import BASELINE, NamedRecipe
from edgeopt.errors import DocumentError, PassError
from edgeopt.passes.registry import load_pass

_FIELDS = ("name", "passes", "precision", "recover", "when", "trains")
_FORM = "Begin each with: - name: my-recipe, and list its passes under passes."


@cache
def shipped_recipes() -> tuple[NamedRecipe, ...]:
    """The recipes that come with edgeopt, in the order of their file, and those of installed packages.

    A package gives its own by an entry point of the group ``edgeopt.recipes``: the `Path` of a file.
    """
    others = (entry.load() for entry in sorted(entry_points(group="edgeopt.recipes"), key=lambda entry: entry.name))
    return tuple(one for path in (Path(__file__).with_name("recipes.yaml"), *others) for one in read_recipes(path))


def read_recipes(path: Path) -> tuple[NamedRecipe, ...]:
    """Recipes of a YAML file: a list of mappings with name, passes, and if wanted precision, recover, when, trains.

    A pass is its name, or a mapping of name and options.

    Raises:
        DocumentError: It cannot be read, is not such a list, or two recipes have one name.
        PassError: A recipe names a pass that is not installed, or gives it bad options; names the recipe.
    """
    entries = documents.read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise DocumentError(
            f"{path}: recipes are a list, this is {type(entries).__name__}.",
            remedy=_FORM,
        )
    found = tuple(_recipe(path, entry) for entry in entries)
    names = [BASELINE.name, *(one.recipe.name for one in found)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DocumentError(f"{path}: two recipes are called {twice[0]!r}.", remedy="Give each its own name.")
    return found


def _recipe(path: Path, entry: object) -> NamedRecipe:
    if not isinstance(entry, dict):
        raise DocumentError(
            f"{path}: a recipe is a mapping of names to values, this is {entry!r:.60}.",
            remedy=_FORM,
        )
    unknown = [str(key) for key in entry if key not in _FIELDS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], _FIELDS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DocumentError(
            f"{path}: recipes have no field {unknown[0]!r}.", remedy=f"{hint}They have {', '.join(_FIELDS)}."
        )
    about = {key: entry[key] for key in ("when", "trains") if key in entry}
    recipe = {key: value for key, value in entry.items() if key not in about}
    if isinstance(recipe.get("passes"), list):  # a pass without options is its name
        recipe["passes"] = [{"name": one} if isinstance(one, str) else one for one in recipe["passes"]]
    named = documents.decode(NamedRecipe, {"when": "", **about, "recipe": recipe}, where=str(path))
    for spec in named.recipe.passes:
        try:
            load_pass(spec)
        except PassError as error:
            raise PassError(f"{path}: recipe {named.recipe.name!r}: {error.message}", remedy=error.remedy) from None
    return named
