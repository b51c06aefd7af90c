"""A search space: a recipe with open choices, and what was found at each point that was tried."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeopt.core.recipe import PassSpec, Recipe

_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")

Value = str | int | float | bool | None
Point = Mapping[str, Value]
"""One value for every choice that is asked there."""


@dataclass(frozen=True)
class Choice:
    """One question that a search answers.

    Attributes:
        name: Passes refer to it as ``$name``.
        values: What may be chosen, in order: the first is nearest to the original, neighbours are alike. ``None`` leaves
            out every pass that refers to it.
        when: Asked only where these other choices, named before it, have one of these values.
    """

    name: str
    values: tuple[Value, ...]
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def asked(self, point: Point) -> bool:
        """Whether it matters at a point, judged by the choices before it."""
        return _holds(self.when, point)


@dataclass(frozen=True)
class OpenPass:
    """A pass of a space, whose options may refer to choices.

    Attributes:
        name: Entry-point name.
        options: Values; ``$width`` alone takes the choice's value, within a text its text. A mapping of ``trial`` and
            ``final`` gives one value while searching and another for what the search ends with.
        when: Part of the recipe only where these choices have one of these values.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """Choices, and the recipe that they complete.

    Attributes:
        name: Its variants are called ``name-1``, ``name-2``, ...
        choices: In the order in which they are asked.
        passes: Of the recipe, first to last.
        precision: What the numbers are in the end, for the table.
    """

    name: str
    choices: tuple[Choice, ...]
    passes: tuple[OpenPass, ...]
    precision: str = "float32"

    def gentlest(self) -> Point:
        """The first value of every choice that is asked."""
        return self.completed({})

    def completed(self, wishes: Point) -> Point:
        """A whole point: the wishes where they are asked for and allowed, else first values, in the choices' order."""
        point: dict[str, Value] = {}
        for choice in self.choices:
            if choice.asked(point):
                wish = wishes.get(choice.name, choice.values[0])
                point[choice.name] = wish if wish in choice.values else choice.values[0]
        return point

    def neighbours(self, point: Point) -> tuple[Point, ...]:
        """Points that differ in one choice, by one step up or down, in a fixed order."""
        found: list[Point] = []
        for choice in self.choices:
            if choice.name not in point:
                continue
            place = choice.values.index(point[choice.name])
            for other in (place + 1, place - 1):
                if 0 <= other < len(choice.values):
                    found.append(self.completed({**point, choice.name: choice.values[other]}))
        return tuple(found)

    def size(self) -> int:
        """How many points there are."""
        return self._count(0, {})

    def _count(self, place: int, point: dict[str, Value]) -> int:
        if place == len(self.choices):
            return 1
        choice = self.choices[place]
        if not choice.asked(point):
            return self._count(place + 1, point)
        return sum(self._count(place + 1, {**point, choice.name: value}) for value in choice.values)

    def recipe(self, point: Point, name: str, *, final: bool = False) -> Recipe:
        """The recipe at a point; passes that refer to a choice of ``None``, or to one that is not asked, are left out."""
        specs = (_closed(one, point, final=final) for one in self.passes if _holds(one.when, point))
        return Recipe(name, tuple(spec for spec in specs if spec is not None), self.precision)


@dataclass(frozen=True)
class Trial:
    """What a search found at one point.

    Attributes:
        number: 1 for the first.
        point: What was chosen.
        objectives: What is made small, in the space's measure: the budget's objective on the device, then the loss of
            metric; empty where the point gave nothing that runs.
        excess: By which share it is over the budget, all limits added; 0 where it holds, infinite without objectives.
        variant: Name of what was made; empty where nothing was.
        reason: Why there is nothing, or what is to be said about it.
    """

    number: int
    point: Point
    objectives: tuple[float, ...] = ()
    excess: float = math.inf
    variant: str = ""
    reason: str = ""

    @property
    def measured(self) -> bool:
        """Whether it ran."""
        return bool(self.objectives)


def _holds(when: Mapping[str, tuple[Value, ...]], point: Point) -> bool:
    return all(name in point and point[name] in values for name, values in when.items())


class _LeftOut(Exception):
    """A reference to a choice that says to leave the pass out."""


def _closed(open_pass: OpenPass, point: Point, *, final: bool) -> PassSpec | None:
    try:
        return PassSpec(open_pass.name, {key: _filled(value, point, final) for key, value in open_pass.options.items()})
    except _LeftOut:
        return None


def _filled(value: Any, point: Point, final: bool) -> Any:
    """A value with its references replaced."""
    if isinstance(value, Mapping) and set(value) == {"trial", "final"}:
        return _filled(value["final" if final else "trial"], point, final)
    if isinstance(value, Mapping):
        return {key: _filled(one, point, final) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, point, final) for one in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    if value[0] == "$" and value[1:].isidentifier():
        return _chosen(value[1:], point)
    return _REFERENCE.sub(lambda found: str(_chosen(found.group(1), point)), value)


def _chosen(name: str, point: Point) -> Value:
    if (found := point.get(name)) is None:
        raise _LeftOut
    return found
