"""Reads the hardware profiles: `profiles/` of the checkout where there is one, else those inside the wheel."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any

from edgeopt import documents
from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Profile
from edgeopt.errors import DocumentError
from edgeopt_targets.inheritance import inherited, line_of_descent

FALLBACK = "generic"
"""The profile of devices that no other fits."""


def profiles_folder() -> Path:
    """Where the built-in profiles are.

    Raises:
        DocumentError: The installation has none.
    """
    package = Path(documents.__file__).parent
    for folder in (package.parents[1] / "profiles", package / "_profiles"):
        if (package.parents[1] / "pyproject.toml").is_file() == (folder.name == "profiles") and folder.is_dir():
            return folder
    raise DocumentError("this installation of edgeopt has no profiles.", remedy="Install it again.")


def read_profile(path: Path) -> Profile:
    """One profile file, with what it extends.

    Raises:
        DocumentError: It cannot be read, is not YAML or does not fit the schema; names the first problem.
    """
    from edgeopt_targets.profile_problems import structural_problems  # pydantic: not for those who only list profiles

    found = structural_problems(path, profiles_folder())
    if found:
        more = f" ({len(found) - 1} more: edgeopt profiles check {path})" if len(found) > 1 else ""
        raise DocumentError(f"{found[0].message}{more}", remedy=found[0].remedy)
    return documents.decode(Profile, merged(path), where=str(path))


def merged(path: Path) -> dict[str, Any]:
    """A profile file with all that it takes from those it extends, as plain data; not checked.

    Raises:
        DocumentError: It or one that it extends cannot be read, is no mapping, or they extend each other in a circle.
    """
    made = inherited([document for _, document in line_of_descent(path, profiles_folder())])
    fields = [name for name in Profile.__dataclass_fields__ if name in made]
    return {name: made[name] for name in (*fields, *(name for name in made if name not in fields))}


def _built_in() -> list[Path]:
    return sorted(profiles_folder().glob("*.yaml"), key=lambda path: path.stem)


def outlines() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Name, description and names of the recipes of all built-in profiles; read, not checked: that takes longer.

    Raises:
        DocumentError: One of them has none of these, or is no YAML.
    """
    found = [merged(path) for path in _built_in()]
    try:
        return tuple((one["name"], one["description"], tuple(r["name"] for r in one["recipes"])) for one in found)
    except (KeyError, TypeError):
        load_profiles()  # says what is wrong, and where
        raise


@cache
def load_profiles() -> tuple[Profile, ...]:
    """All built-in profiles, by name.

    Raises:
        DocumentError: One of them is not valid.
    """
    return tuple(read_profile(path) for path in _built_in())


def profile_path(name: str) -> Path:
    """The file of a profile: a built-in one's by its name, or the user's own where `name` is a path to YAML.

    Raises:
        DocumentError: There is none; lists those there are.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise DocumentError(f"there is no profile file {name!r}.", remedy="Check the path.")
    known = [path.stem for path in _built_in()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise DocumentError(f"there is no profile {name!r}.", remedy=f"{hint}Profiles: {', '.join(known)}.")
    return profiles_folder() / f"{name}.yaml"


def find_profile(name: str) -> Profile:
    """The built-in profile called `name`, or the one in the file that `name` is the path of.

    Raises:
        DocumentError: There is none, or the file is not right.
    """
    path = profile_path(name)
    return next((one for one in load_profiles() if one.name == name), None) or read_profile(path)


def match_profile(facts: DeviceFacts) -> Profile:
    """The profile that says most about a device; never none: a generic one serves what nobody knows."""
    from edgeopt_targets import registry  # not needed by those who only list profiles
    from edgeopt_targets.matching import rank

    fitting = [profile for profile in load_profiles() if registry.target(profile.target).matches(profile, facts)]
    return max(fitting, key=lambda profile: rank(profile, facts)) if fitting else find_profile(FALLBACK)
