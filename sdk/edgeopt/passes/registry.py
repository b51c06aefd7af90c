"""Finds passes by entry-point name and checks their options, all bad ones at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes._base import Pass

GROUP = "edgeopt.passes"


def pass_names() -> tuple[str, ...]:
    """Names of all installed passes, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def pass_modules() -> tuple[str, ...]:
    """Modules that installed passes are in, sorted; a broken one too."""
    return tuple(sorted({point.module for point in entry_points(group=GROUP)}))


@cache  # all installed packages are looked through: 10 ms
def pass_class(name: str) -> type[Pass]:
    """The class behind an entry-point name, loaded now.

    Raises:
        PassError: No such pass (lists those there are), or its package does not import.
    """
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        raise PassError(f"there is no pass {name!r}.", remedy=f"Installed passes: {', '.join(pass_names())}.")
    try:
        loaded: type[Pass] = point.load()
    except (ImportError, AttributeError) as error:
        raise PassError(f"pass {name!r} ({point.value}) cannot be loaded: {error}.") from None
    return loaded


def load_pass(spec: PassSpec) -> Pass:
    """Build a pass with its options.

    Raises:
        PassError: Unknown pass, or options that are unknown, of a wrong type or out of range; names all of them.
    """
    kind = pass_class(spec.name)
    return kind(_options(spec.name, kind.options_class, spec.options))


def _options(name: str, kind: Any, given: Mapping[str, Any]) -> Any:
    from pydantic import ValidationError

    known = {field.name for field in dataclasses.fields(kind)}
    problems = [f"{option!r} is not an option" for option in given if option not in known]
    try:
        built = _checker(kind).validate_python({key: value for key, value in given.items() if key in known})
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            value = f"{place}={problem['input']!r}: " if place else ""
            problems.append(value + problem["msg"].removeprefix("Value error, "))
    if problems:
        raise PassError(
            f"pass {name!r} has bad options: {'; '.join(problems)}.",
            remedy=f"Its options: {', '.join(sorted(known)) or 'none'}.",
        )
    return built


@cache
def _checker(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
