"""Everything that is wrong with a profile file at once: place, line, value, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt import documents
from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes.registry import load_pass
from edgeopt_targets import registry
from edgeopt_targets.inheritance import inherited, known_recipes, line_of_descent
from edgeopt_targets.profile_document import TAGS, ProfileDocument

Place = tuple[str | int, ...]
_NEEDED = ("target", "description")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: The profile's file.
        line: Line in it, from 1.
        path: Where, for example ``threads.0``; empty: the whole file.
        value: What stands there, shortened; empty where something is missing.
        what: What is wrong with it.
        remedy: What to do.
    """

    file: str
    line: int
    path: str
    value: str
    what: str
    remedy: str = ""

    @property
    def message(self) -> str:
        """One line for a terminal, in the form that editors jump to."""
        value = f" is {self.value}" if self.value else ""
        return f"{self.file}:{self.line}: {self.path or 'the profile'}{value}: {self.what}."


@dataclass(frozen=True)
class _Finding:
    place: Place
    what: str
    remedy: str = ""
    missing: bool = False


def find_problems(path: Path, built_in: Path) -> tuple[Problem, ...]:
    """All problems of a file, in the order of their lines, those of the whole file last: form, sense, passes.

    Args:
        path: The file.
        built_in: Folder of the profiles that it may extend.

    Raises:
        DocumentError: It is not YAML or no mapping, or what it extends cannot be read.
    """
    line = line_of_descent(path, built_in)
    return _located(path, [*_form(line, path), *_sense(line), *_passes(line[-1][1])])


def structural_problems(path: Path, built_in: Path) -> tuple[Problem, ...]:
    """The same without passes and their options, which load what the passes need."""
    line = line_of_descent(path, built_in)
    return _located(path, [*_form(line, path), *_sense(line)])


def _form(line: list[tuple[Path, dict[str, Any]]], path: Path) -> Iterator[_Finding]:
    """What the schema says."""
    from pydantic import ValidationError

    document = line[-1][1]
    try:
        ProfileDocument.model_validate(document)
    except ValidationError as error:
        for one in error.errors():
            yield _finding(one)
    if isinstance(document.get("name"), str) and document["name"] != path.stem:
        yield _Finding(("name",), "the file is called otherwise", f"Call it {path.stem!r}.")
    whole = inherited([one for _, one in line])
    for name in _NEEDED:
        if not whole.get(name):
            yield _Finding((), f"it has no {name}", f"Give {name}:, or extend a profile that has it.", missing=True)


def _finding(error: Mapping[str, Any]) -> _Finding:
    place = tuple(part for part in error["loc"] if part not in TAGS)
    if error["type"] == "extra_forbidden":
        known = _fields_at(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return _Finding(place, "there is no such field", f"{hint}There are {', '.join(known)}.")
    if error["type"] == "missing":
        return _Finding(place[:-1], f"{place[-1]} is missing", f"Give {place[-1]}:.", missing=True)
    if error["type"] == "literal_error":
        return _Finding(place, "not one of those there are", f"Use {error['ctx']['expected']}.")
    return _Finding(place, str(error["msg"])[0].lower() + str(error["msg"])[1:], "Correct it there.")


def _fields_at(place: Place) -> list[str]:
    """Names of the fields at a place, from the schema."""
    schema = ProfileDocument.model_json_schema()
    names = [part for part in place if isinstance(part, str)]
    title = {"hardware": "HardwareDocument", "limits": "LimitsDocument", "clues": "ClueDocument"}
    if names and names[0] == "recipes":
        key = "PassDocument" if "passes" in names else "RecipeDocument"
    else:
        key = title.get(names[0], "") if names else ""
    found = schema["$defs"][key] if key else schema
    return list(found["properties"])


def _sense(line: list[tuple[Path, dict[str, Any]]]) -> Iterator[_Finding]:
    """What a schema cannot say."""
    document = line[-1][1]
    recipes = document.get("recipes")
    if isinstance(recipes, list):
        yield from _recipe_names(recipes, known_recipes([one for _, one in line]))
    target = document.get("target")
    if isinstance(target, str) and target not in registry.target_names():
        yield _Finding(("target",), "there is no such target", f"Installed: {', '.join(registry.target_names())}.")
    fields = set(ProfileDocument.model_fields)
    for name in document.get("sources") or {} if isinstance(document.get("sources"), dict) else {}:
        if str(name).split(".")[0] not in fields:
            near = difflib.get_close_matches(str(name), sorted(fields), n=1)
            yield _Finding(
                ("sources", str(name)), "no field of that name", f"Did you mean {near[0]!r}?" if near else ""
            )
    for index, clue in enumerate(document.get("clues") or [] if isinstance(document.get("clues"), list) else []):
        if isinstance(clue, dict) and not {"model", "compatible", "l4t"}.intersection(clue):
            yield _Finding(("clues", index), "it would fit any board", "Give model, compatible or l4t.")


def _recipe_names(recipes: list[Any], known: Mapping[str, Any]) -> Iterator[_Finding]:
    names = [one if isinstance(one, str) else one.get("name") for one in recipes if isinstance(one, str | dict)]
    for index, one in enumerate(recipes):
        if isinstance(one, str) and one not in known:
            near = difflib.get_close_matches(one, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            there = f"There are {', '.join(known)}." if known else "Write its passes out."
            yield _Finding(("recipes", index), "no profile that this one extends has such a recipe", hint + there)
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            where = len(names) - 1 - names[::-1].index(name)
            yield _Finding(("recipes", where), f"two recipes are called {name!r}", "Give each its own name.")


def _passes(document: Mapping[str, Any]) -> Iterator[_Finding]:
    """Passes that are not installed, and options that they do not take."""
    recipes = document.get("recipes")
    for index, recipe in enumerate(recipes if isinstance(recipes, list) else []):
        passes = recipe.get("passes") if isinstance(recipe, dict) else None
        for step, one in enumerate(passes if isinstance(passes, list) else []):
            if not isinstance(one, dict) or not isinstance(one.get("name"), str):
                continue
            options = one.get("options") or {}
            try:
                load_pass(PassSpec(one["name"], options if isinstance(options, dict) else {}))
            except PassError as error:
                yield _Finding(("recipes", index, "passes", step), error.message.rstrip("."), error.remedy)


def _located(path: Path, found: list[_Finding]) -> tuple[Problem, ...]:
    if not found:
        return ()
    document, lines = documents.read_yaml(path), documents.yaml_lines(path)
    made = [
        Problem(
            file=str(path),
            line=_line(lines, one.place),
            path=".".join(part if part.isprintable() and part else repr(part) for part in map(str, one.place)),
            value="" if one.missing else _shown(document, one.place),
            what=" ".join(one.what.split()),
            remedy=" ".join(one.remedy.split()),
        )
        for one in found
    ]
    return tuple(sorted(dict.fromkeys(made), key=lambda one: (not one.path, one.line, one.path)))


def _line(lines: Mapping[Place, int], place: Place) -> int:
    """Line of a place, or of the nearest one around it that the file has."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _shown(document: Any, place: Place) -> str:
    """The value at a place; empty where the parser's keys are other than those of the file (a number as a name)."""
    for part in place:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return ""
    return repr(document)[:80]
