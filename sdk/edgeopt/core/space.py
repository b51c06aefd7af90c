"""A search space: a recipe with open choices, and what was found at each point that was tried."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(rf"\$({_NAME.pattern})")

Value = str | int | float | bool | None
Point = Mapping[str, Value]
"""One value for every choice that is asked there."""

_ANYWHERE: Point = MappingProxyType({})


@dataclass(frozen=True)
class Choice:
    """One question that a search answers.

    Attributes:
        name: Passes refer to it as ``$name``.
        values: What may be chosen, in order: the first is nearest to the original, neighbours are alike. ``None``
            leaves out every pass that refers to it.
        when: Asked only where these other choices, named before it, have one of these values.

    Raises:
        UsageError: A name that passes cannot refer to, or values that are none, twice, not finite or of several kinds.
    """

    name: str
    values: tuple[Value, ...]
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"a choice is called {self.name!r}.", remedy="Use letters, digits and _, a letter first.")
        if not self.values:
            raise UsageError(f"choice {self.name!r} has no values.", remedy="Give at least one.")
        for value in self.values:
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"choice {self.name!r} has the value {value}.", remedy="Give finite numbers.")
        if len(kinds := sorted({_kind(value) for value in self.values if value is not None})) > 1:
            raise UsageError(
                f"choice {self.name!r} mixes {' and '.join(kinds)}: {list(self.values)}.",
                remedy="Give values of one kind; only null goes with any.",
            )
        if twice := [value for value in self.values if self.values.count(value) > 1]:
            raise UsageError(f"choice {self.name!r} has {twice[0]!r} twice.", remedy="Give each value once.")

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

    @property
    def references(self) -> frozenset[str]:
        """Names of the choices that its options refer to."""
        return references(self.options)


@dataclass(frozen=True)
class Space:
    """Choices, and the recipe that they complete.

    Attributes:
        name: Its variants are called ``name-1``, ``name-2``, ...
        choices: In the order in which they are asked.
        passes: Of the recipe, first to last.
        precision: What the numbers are in the end, for the table; may refer to a choice.

    Raises:
        UsageError: Two choices of one name, or a condition or a reference that names no choice that it can.
    """

    name: str
    choices: tuple[Choice, ...]
    passes: tuple[OpenPass, ...]
    precision: str = "float32"

    def __post_init__(self) -> None:
        known: list[str] = []
        for choice in self.choices:
            if choice.name in known:
                raise UsageError(f"two choices are called {choice.name!r}.", remedy="Give each its own name.")
            self._demand(choice.when, known, f"the condition of choice {choice.name!r}", "choices named before it")
            known.append(choice.name)
        for one in self.passes:
            self._demand(one.references, known, f"pass {one.name!r}", "the choices")
            self._demand(one.when, known, f"the condition of pass {one.name!r}", "the choices")
        self._demand(references(self.precision), known, "the precision", "the choices")

    def _demand(self, names: Collection[str], known: Sequence[str], what: str, among: str) -> None:
        """Refuse names that are not known."""
        if absent := sorted(set(names) - set(known)):
            listed = ", ".join(known) or "none"
            raise UsageError(f"{what} names {absent[0]!r}.", remedy=f"It can only name {among}: {listed}.")

    def __contains__(self, point: Point) -> bool:
        """Whether it is one of the points: an allowed value for every choice that is asked, and nothing else."""
        return self.completed(point) == dict(point)

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

    def size(self, held: Point = _ANYWHERE) -> int:
        """How many points there are; of those only that have the values `held` where these choices are asked."""
        return self._count(0, {}, held, {})

    def _count(self, place: int, point: Point, held: Point, known: dict[object, int]) -> int:
        """Ways to go on from the choices before `place`: what these mean to later conditions is all that matters."""
        if place == len(self.choices):
            return 1
        before = {choice.name for choice in self.choices[:place]}
        meaning = tuple(
            _holds({name: values for name, values in choice.when.items() if name in before}, point)
            for choice in self.choices[place:]
        )
        if (key := (place, meaning)) not in known:
            choice = self.choices[place]
            values = (held[choice.name],) if choice.name in held else choice.values
            ways = [{**point, choice.name: value} for value in values] if choice.asked(point) else [point]
            known[key] = sum(self._count(place + 1, way, held, known) for way in ways)
        return known[key]

    def recipe(self, point: Point, name: str, *, final: bool = False) -> Recipe:
        """The recipe at a point, without passes that refer to a choice of ``None`` or to one that is not asked."""
        closed = tuple(
            PassSpec(one.name, {key: _filled(value, point, final) for key, value in one.options.items()})
            for one in self.passes
            if _holds(one.when, point) and _answered(one.references, point)
        )
        precision = self.precision if _answered(references(self.precision), point) else "float32"
        return Recipe(name, closed, str(_filled(precision, point, final)))


@dataclass(frozen=True)
class NamedSpace:
    """A space that may be asked for by name, with the reason to do so.

    Attributes:
        space: What is searched.
        when: When it is the right one, in one sentence.
    """

    space: Space
    when: str


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
        board: Name of the device that measured it.
        device_seconds: How long that had the device.
    """

    number: int
    point: Point
    objectives: tuple[float, ...] = ()
    excess: float = math.inf
    variant: str = ""
    reason: str = ""
    board: str = ""
    device_seconds: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether it ran."""
        return bool(self.objectives)

    @property
    def chosen(self) -> str:
        """The point in words."""
        said = (f"{name} {value}" for name, value in self.point.items() if value is not None)
        return ", ".join(said) or "nothing changed"


def _kind(value: Value) -> str:
    return "yes or no" if isinstance(value, bool) else "text" if isinstance(value, str) else "numbers"


def references(value: Any) -> frozenset[str]:
    """Names of the choices that a value refers to, at any depth."""
    if isinstance(value, str):
        return frozenset(_REFERENCE.findall(value))
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return frozenset().union(*(references(one) for one in inner))


def _holds(when: Mapping[str, tuple[Value, ...]], point: Point) -> bool:
    return all(name in point and point[name] in values for name, values in when.items())


def _answered(names: Collection[str], point: Point) -> bool:
    """Whether all these choices are asked at a point, and none says to leave out what refers to it."""
    return all(point.get(name) is not None for name in names)


def _filled(value: Any, point: Point, final: bool) -> Any:
    """A value with its references replaced."""
    if isinstance(value, Mapping) and set(value) == {"trial", "final"}:
        return _filled(value["final" if final else "trial"], point, final)
    if isinstance(value, Mapping):
        return {key: _filled(one, point, final) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, point, final) for one in value]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return point[whole.group(1)]
    return _REFERENCE.sub(lambda found: str(point[found.group(1)]), value)
