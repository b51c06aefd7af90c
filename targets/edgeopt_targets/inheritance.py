"""How a profile takes from the one it extends: fields it does not give, entries of mappings, recipes by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeopt import documents
from edgeopt.errors import DocumentError
from edgeopt_targets.convert import RECIPES

_OWN = ("name", "extends", "generic")
"""Fields that are not handed down."""

_JOINED = ("hardware", "limits", "sources")
"""Mappings that are handed down entry by entry."""


def line_of_descent(path: Path, built_in: Path) -> list[tuple[Path, dict[str, Any]]]:
    """A profile file and those it extends, the oldest first.

    Args:
        path: The file.
        built_in: Folder of the profiles that may be extended besides those in the file's own.

    Raises:
        DocumentError: One cannot be read or is no mapping, extends none that there is, or one that extends it.
    """
    line: list[tuple[Path, dict[str, Any]]] = []
    wanted: Path | None = path
    while wanted is not None:
        if wanted in (known for known, _ in line):
            names = " extends ".join(known.stem for known, _ in (*line, (wanted, {})))
            raise DocumentError(f"{path}: {names}.", remedy="Let one of them stand for itself.")
        document = _read(wanted)
        if not isinstance(document, dict):
            kind = type(document).__name__
            raise DocumentError(f"{wanted}: a profile is a mapping of names to values, this is {kind}.")
        line.append((wanted, document))
        parent = document.get("extends")
        wanted = _file_of(parent, wanted, built_in) if isinstance(parent, str) else None
    return line[::-1]


def _read(path: Path) -> Any:
    """A file's content, parsed once as long as it stays the same: a parent is wanted by each of its children."""
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        return documents.read_yaml(path)  # says why it cannot be read
    return _parsed(path, written)


@lru_cache(maxsize=256)
def _parsed(path: Path, _: int) -> Any:
    return documents.read_yaml(path)


def _file_of(name: str, child: Path, built_in: Path) -> Path:
    for folder in (child.parent, built_in):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = ", ".join(sorted(path.stem for path in built_in.glob("*.yaml")))
    raise DocumentError(f"{child}: it extends {name!r}, which there is not.", remedy=f"Profiles: {known}.")


def inherited(line: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One profile of a line of descent, the oldest first; recipes given by name alone are written out."""
    made: dict[str, Any] = {}
    for document in line:
        recipes = known_recipes([document], made.pop("known", None))
        made = {key: value for key, value in made.items() if key not in _OWN}
        for key, value in document.items():
            joins = key in _JOINED and isinstance(value, dict) and isinstance(made.get(key), dict)
            made[key] = {**made[key], **value} if joins else value
        if isinstance(document.get("recipes"), list):
            made["recipes"] = [recipes.get(one, one) if isinstance(one, str) else one for one in document["recipes"]]
        made["known"] = recipes
    made.pop("known", None)
    made.pop("extends", None)
    return made


def _converting() -> dict[str, Any]:
    """The recipes that end in a file of another runtime, as profiles have recipes."""
    about = ("when", "trains")
    return {one["name"]: {key: one[key] for key in one if key not in about} for one in _read(RECIPES)}


def known_recipes(line: Sequence[dict[str, Any]], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The recipes by name that a line of descent may refer to: those that convert, and those that it defines.

    The youngest definition of a name holds.
    """
    known = dict(before or _converting())
    for document in line:
        for one in document.get("recipes") or [] if isinstance(document.get("recipes"), list) else []:
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                known[one["name"]] = one
    return known
