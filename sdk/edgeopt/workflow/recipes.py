"""Which recipes a run tries: the profile's, the user's own, and those that ship and are asked for."""

from __future__ import annotations

import difflib
from pathlib import Path

from edgeopt.core.profile import Profile
from edgeopt.core.recipe import NamedRecipe, PassSpec, Recipe
from edgeopt.environments import is_ready
from edgeopt.errors import UsageError
from edgeopt.passes._files import file_digest
from edgeopt.passes.recipe_files import read_recipes, shipped_recipes
from edgeopt.passes.registry import pass_class
from edgeopt.workflow.request import Request

NONE = "none"
"""Instead of names of recipes: the original and what a search finds compete alone."""


def wanted(request: Request, profile: Profile) -> tuple[Recipe, ...]:
    """The recipes to try, in order.

    Raises:
        UsageError: A name that nobody has.
        DocumentError: The user's file is not one of recipes.
        PassError: A recipe in it names no pass, or bad options.
    """
    own = read_recipes(Path(request.recipe_file)) if request.recipe_file else ()
    adopted = [_adopting(path) for path in request.candidates]
    if request.recipes == (NONE,):
        return _named_once(adopted)
    if not request.recipes:
        training = [one for one in shipped_recipes() if one.trains] if request.data.training else []
        return _named_once([*profile.recipes, *_recipes(own), *_recipes(training), *adopted])
    known = {one.name: one for one in [*_recipes(shipped_recipes()), *profile.recipes, *_recipes(own)]}
    named = [known[_known(name, known)] if isinstance(name, str) else name for name in request.recipes]
    return _named_once([*named, *adopted])


def missing_tools(recipe: Recipe, request: Request) -> str | None:
    """Why a recipe whose converter would first have to be installed is not tried unasked; ``None``: it may be."""
    if recipe.name in request.recipes:
        return None
    tools = [getattr(pass_class(spec.name), "tools", None) for spec in recipe.passes]
    absent = [one for one in tools if one is not None and not is_ready(one)]
    if not absent:
        return None
    size = f"{absent[0].size_bytes / (1 << 30):.1f} GiB"
    return f"its converter is not here yet ({size}, once): --recipes {recipe.name} installs it by itself"


def _adopting(text: str) -> Recipe:
    """The recipe that takes a file as it is."""
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--candidate {text!r}: there is no such file.", remedy="Give the path of an ONNX file.")
    options = {"path": str(path.absolute()), "digest": file_digest(path)}
    return Recipe(path.stem, (PassSpec("adopt", options),))


def _recipes(named: tuple[NamedRecipe, ...] | list[NamedRecipe]) -> list[Recipe]:
    return [one.recipe for one in named]


def _named_once(recipes: list[Recipe]) -> tuple[Recipe, ...]:
    """The last of those with one name: the user's file goes before the profile."""
    return tuple({recipe.name: recipe for recipe in recipes}.values())


def _known(name: str, known: dict[str, Recipe]) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(f"--recipes names {name!r}, which there is not.", remedy=f"{hint}There are {', '.join(known)}.")
