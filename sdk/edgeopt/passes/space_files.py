"""Search spaces by name: those that ship, and those of the user's own files."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from edgeopt import documents
from edgeopt.core.recipe import PassSpec
from edgeopt.core.space import Choice, NamedSpace, OpenPass, Point, Space, Value, references
from edgeopt.errors import DocumentError, PassError, UsageError
from edgeopt.passes.registry import load_pass, pass_class

_FIELDS = ("name", "when", "choices", "passes", "precision")
_CHOICE_FIELDS = ("values", "low", "high", "step", "when")
_PASS_FIELDS = ("name", "options", "when")
_FORM = "Write name: my-space, then under choices lines such as width: [1.0, 0.5], and its passes under passes."
_MOST_VALUES = 1000
_MOST_TRIED = 256
"""Combinations of the choices of one pass that are all checked; of more, each value by itself."""


@cache
def shipped_spaces() -> tuple[NamedSpace, ...]:
    """The spaces that come with edgeopt, in the order of their file; the first is the default."""
    path = Path(__file__).with_name("spaces.yaml")
    return tuple(_space(str(path), entry) for entry in documents.read_yaml(path))


def read_space(path: Path) -> Space:
    """The space of a YAML file: a mapping with name, choices and passes, and if wanted precision and when.

    A choice is a list of values, or a mapping of ``values`` or ``low``, ``high`` and ``step`` (below 0 it begins with
    ``high``), and ``when``. A pass is its name, or a mapping of ``name``, ``options`` and ``when``.

    Raises:
        DocumentError: It cannot be read, is not such a mapping, or choices and passes do not fit each other.
        PassError: A pass that is not installed, or does not take its options at some of the points; names the choices.
    """
    return _space(str(path), documents.read_yaml(path)).space


def _space(where: str, entry: object) -> NamedSpace:
    fields = _mapping(where, "a search space", entry, _FIELDS)
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        raise DocumentError(f"{where}: the space has the name {name!r}.", remedy=_FORM)
    where = f"{where}: space {name!r}"
    choices = fields.get("choices")
    if not isinstance(choices, dict) or not choices:
        raise DocumentError(f"{where} has no choices: there is nothing to search.", remedy=_FORM)
    if not isinstance(fields.get("passes"), list) or not fields["passes"]:
        raise DocumentError(f"{where} has no passes.", remedy=_FORM)
    passes = tuple(_pass(where, one) for one in fields["passes"])
    try:
        known = tuple(_choice(where, str(key), value) for key, value in choices.items())
        space = Space(name, known, passes, str(fields.get("precision", "float32")))
    except UsageError as error:
        raise DocumentError(f"{where}: {error.message}", remedy=error.remedy) from None
    _demand_all_used(where, space)
    _demand_values_of_conditions(where, space)
    for one in passes:
        _demand_options(where, replace(space, passes=(one,)))
    return NamedSpace(space, str(fields.get("when", "")))


def _mapping(where: str, what: str, entry: object, fields: Collection[str]) -> dict[str, Any]:
    """The entry, if it is a mapping with no other fields than these."""
    if not isinstance(entry, dict):
        raise DocumentError(f"{where}: {what} is a mapping of names to values, this is {entry!r:.60}.", remedy=_FORM)
    for key in entry:
        if key not in fields:
            hint = _meant(str(key), fields)
            raise DocumentError(f"{where}: {what} has no field {key!r}.", remedy=f"{hint}It has {', '.join(fields)}.")
    return entry


def _meant(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def _choice(where: str, name: str, entry: object) -> Choice:
    what = f"choice {name!r}"
    fields = {"values": entry} if isinstance(entry, list) else _mapping(where, what, entry, _CHOICE_FIELDS)
    ends = [fields[key] for key in ("low", "high", "step") if key in fields]
    if ("values" in fields) == bool(ends) or (ends and len(ends) < 3):
        raise DocumentError(
            f"{where}: {what} is {entry!r:.80}.", remedy="Give a list of values, or low, high and step, all three."
        )
    values = _range(f"{where}: {what}", *ends) if ends else fields["values"]
    return Choice(name, _values(f"{where}: {what}", values), _condition(f"{where}: {what}", fields))


def _values(what: str, given: object) -> tuple[Value, ...]:
    """One value or several, as several."""
    values = given if isinstance(given, list) else [given]
    for value in values:
        if value is not None and not isinstance(value, str | int | float):
            raise DocumentError(
                f"{what} has the value {str(value)!r:.60}.", remedy="Give numbers, text, true, false or null."
            )
    return tuple(values)


def _range(what: str, low: object, high: object, step: object) -> list[Value]:
    """Numbers from low to high, both with them where steps reach them; from high to low where the step is below 0."""
    ends = (low, high, step)
    said = f"{what} goes from {low!r} to {high!r} by {step!r}"
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in ends):
        raise DocumentError(f"{said}.", remedy="Give three finite numbers.")
    first, last, stride = (Decimal(str(one)) for one in ends)  # decimal: 0.1 + 0.2 is to be 0.3
    if not stride or first > last:
        raise DocumentError(f"{said}.", remedy="low must not be above high, and step not 0.")
    if (count := int((last - first) / abs(stride)) + 1) > _MOST_VALUES:
        raise DocumentError(f"{said}: {count} values.", remedy=f"Use larger steps: at most {_MOST_VALUES} values.")
    kind = int if all(isinstance(one, int) for one in ends) else float
    return [kind((first if stride > 0 else last) + place * stride) for place in range(count)]


def _condition(what: str, fields: Mapping[str, Any]) -> dict[str, tuple[Value, ...]]:
    given = fields.get("when") or {}
    if not isinstance(given, dict):
        raise DocumentError(
            f"{what} has the condition {given!r:.60}.", remedy="Write it as when: {other-choice: value or [values]}."
        )
    return {str(name): _values(f"{what}: the condition", values) for name, values in given.items()}


def _pass(where: str, entry: object) -> OpenPass:
    fields = {"name": entry} if isinstance(entry, str) else _mapping(where, "a pass", entry, _PASS_FIELDS)
    name, options = fields.get("name"), fields.get("options") or {}
    if not isinstance(name, str) or not isinstance(options, dict):
        raise DocumentError(
            f"{where}: a pass is {entry!r:.80}.", remedy="Write its name, or {name: ..., options: {option: value}}."
        )
    return OpenPass(name, options, _condition(f"{where}: pass {name!r}", fields))


def _demand_all_used(where: str, space: Space) -> None:
    """Refuse a choice that nothing depends on: it would only waste trials."""
    used = {name for one in space.passes for name in (*one.references, *one.when)}
    used |= {name for choice in space.choices for name in choice.when} | references(space.precision)
    for choice in space.choices:
        if choice.name not in used:
            hint = _meant(choice.name, used)
            raise DocumentError(
                f"{where}: no pass refers to choice {choice.name!r}.",
                remedy=f"{hint}Write ${choice.name} as the value of an option, or leave the choice out.",
            )


def _demand_values_of_conditions(where: str, space: Space) -> None:
    """Refuse a condition on a value that its choice does not have: it would never hold."""
    values = {choice.name: choice.values for choice in space.choices}
    conditional: list[Choice | OpenPass] = [*space.choices, *space.passes]
    for one in conditional:
        for name, wanted in one.when.items():
            for value in wanted:
                if value not in values[name]:
                    raise DocumentError(
                        f"{where}: the condition of {one.name!r} asks for {name} {value!r}.",
                        remedy=f"{name} can be {', '.join(map(repr, values[name]))}.",
                    )


def _demand_options(where: str, space: Space) -> None:
    """Refuse a space of one pass where the pass does not take its options, or is in no recipe."""
    (one,) = space.passes
    points, complete = _probes(space)
    try:
        pass_class(one.name)
    except PassError as error:
        raise PassError(f"{where}: {error.message}", remedy=error.remedy) from None
    tried: list[PassSpec] = []
    for point, final in itertools.product(points, (False, True)):
        for spec in space.recipe(point, "", final=final).passes:
            if spec in tried:
                continue
            tried.append(spec)
            try:
                load_pass(spec)
            except PassError as error:
                at = " and ".join(f"{name} {point[name]}" for name in sorted(one.references))
                place = f"{where}, at {at}" if at else where
                raise PassError(f"{place}: {error.message}", remedy=error.remedy) from None
    if complete and not tried:
        raise DocumentError(
            f"{where}: pass {one.name!r} is left out at every point.",
            remedy="Its condition and the choices that it refers to must be possible together.",
        )


def _probes(space: Space) -> tuple[list[Point], bool]:
    """Points at which the one pass is tried, and whether these are all that differ for it."""
    (one,) = space.passes
    needed = {*one.references, *one.when}
    for choice in reversed(space.choices):  # conditions name earlier choices only
        needed |= set(choice.when) if choice.name in needed else set()
    varied = {choice.name: choice for choice in space.choices if choice.name in needed}
    if math.prod(len(choice.values) for choice in varied.values()) <= _MOST_TRIED:
        combined = itertools.product(*(choice.values for choice in varied.values()))
        return [space.completed(dict(zip(varied, values, strict=True))) for values in combined], True
    usual: dict[str, Value] = {}
    conditional: list[Choice | OpenPass] = [one, *reversed(varied.values())]
    for asked in conditional:
        usual |= {name: values[0] for name, values in asked.when.items() if name not in usual}
    for name, choice in varied.items():
        usual.setdefault(name, next((value for value in choice.values if value is not None), None))
    single = [{**usual, name: value} for name, choice in varied.items() for value in choice.values]
    return [space.completed(wishes) for wishes in single], False
