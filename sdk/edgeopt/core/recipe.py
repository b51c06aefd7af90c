"""What is done to a network: passes with options, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PassSpec:
    """One pass, by entry-point name, with the options that differ from its defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """An ordered list of passes.

    Attributes:
        name: What the variant is called in tables, for example ``int8-entropy``.
        passes: The passes, first to last. Empty: the unmodified model.
        precision: What the numbers are in the end, for the table: ``float32``, ``float16``, ``int8``, ``int4``.
        recover: Whether a quantised result that misses the accuracy budget may get layers back in float.
    """

    name: str
    passes: tuple[PassSpec, ...] = ()
    precision: str = "float32"
    recover: bool = False


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe that may be asked for by name, with the reason to do so.

    Attributes:
        recipe: What is done.
        when: When it wins, and when it does not, in one sentence.
        trains: Whether it is tried without being named where the user gives training samples.
    """

    recipe: Recipe
    when: str
    trains: bool = False


BASELINE = Recipe(name="original")
"""The unmodified model: always a candidate, always measured first."""
