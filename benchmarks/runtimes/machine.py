"""This machine as the benchmark's device: homes of its own, its runtimes, and what is tried in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.device import LOCAL, DeviceFacts
from edgeopt.core.formats import reads
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import Recipe
from edgeopt.environments import is_ready
from edgeopt.graph.engine_process import EXECUTORCH
from edgeopt.home import home
from edgeopt.passes.recipe_files import read_recipes
from edgeopt.passes.registry import pass_class
from edgeopt.remote.client import connect
from edgeopt_targets.convert import RECIPES
from edgeopt_targets.profile_files import match_profile

_LAST_RESORT = frozenset({"litert-int8-io", "litert-weights4", "litert-int8-qat"})
"""Recipes for accelerators, for size, and for those with training samples: none of them is faster here."""


@dataclass(frozen=True)
class Machine:
    """This machine as the benchmark's device.

    Attributes:
        facts: What the probe found.
        profile: The profile that fits it.
        recipes: Names of what is tried.
        notes: What is not, and why.
    """

    facts: DeviceFacts
    profile: Profile
    recipes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those that it has, in the profile's order."""
        return tuple(name for name in self.profile.runtimes if self.facts.runtime(name))


def home_in(folder: Path) -> None:
    """Give edgeopt and its runner homes of their own there; tools' environments stay where the user has them.

    Where ExecuTorch's environment is, it becomes the one that the host provisioned, as it would be on a board.
    """
    os.environ.setdefault("EDGEOPT_ENVIRONMENTS", str(home() / "environments"))
    os.environ["EDGEOPT_HOME"] = str(folder / "edgeopt")
    os.environ["HOME"] = str(folder / "home")
    current = folder / "home" / ".edgeopt" / "env" / "current"
    current.parent.mkdir(parents=True, exist_ok=True)
    current.unlink(missing_ok=True)
    if is_ready(EXECUTORCH):
        current.symlink_to(EXECUTORCH.folder)


def this_machine() -> Machine:
    """Probe, and list the profile's recipes and the conversions whose converter and runtime are here."""
    with connect(LOCAL) as connection:
        facts = connection.probe()
    profile = match_profile(facts)
    present = [name for name in profile.runtimes if facts.runtime(name)]
    names, notes = [recipe.name for recipe in profile.recipes], []
    for recipe in (one.recipe for one in read_recipes(RECIPES) if one.recipe.name not in _LAST_RESORT):
        problem = _problem(recipe, present)
        if problem:
            notes.append(f"{recipe.name}: {problem}")
        elif recipe.name not in names:
            names.append(recipe.name)
    absent = {note.partition(":")[0] for note in notes}
    return Machine(facts, profile, tuple(name for name in names if name not in absent), tuple(notes))


def _problem(recipe: Recipe, present: list[str]) -> str:
    """Why a conversion cannot take part here; empty: it can."""
    converter = pass_class(recipe.passes[-1].name)
    if not any(reads(runtime, converter.format) for runtime in present):
        return f"no runtime of this machine reads .{converter.format}"
    if not is_ready(converter.tools):  # type: ignore[attr-defined]
        return f"its converter is not here (edgeopt optimize --recipes {recipe.name} installs it)"
    return ""
