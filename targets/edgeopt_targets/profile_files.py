"""Reads the hardware profiles: `profiles/` of the checkout where there is one, else those inside the wheel."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from edgeopt import documents
from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Profile
from edgeopt.errors import DocumentError


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
    """One profile file.

    Raises:
        DocumentError: It cannot be read, is not YAML or does not fit the schema; or its name is not the file's.
    """
    value = documents.read_yaml(path)
    if not isinstance(value, dict):
        raise DocumentError(f"{path}: a profile is a mapping of names to values, this is {type(value).__name__}.")
    unknown = sorted(set(value) - set(Profile.__dataclass_fields__))
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), Profile.__dataclass_fields__, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise DocumentError(f"{path}: profiles have no field {unknown[0]!r}.", remedy=hint)
    profile = documents.decode(
        Profile, value, where=str(path), remedy="Correct it there; edgeopt profiles show x86-64 is one that is right."
    )
    _check(profile, path)
    return profile


def _check(profile: Profile, path: Path) -> None:
    if profile.name != path.stem:
        raise DocumentError(f"{path}: the profile calls itself {profile.name!r}.", remedy=f"Call it {path.stem!r}.")
    words = [threads for threads in profile.threads if isinstance(threads, str)]
    wrong = [word for word in words if word not in ("physical", "logical")]
    if wrong:
        raise DocumentError(f"{path}: threads has {wrong[0]!r}.", remedy="Use a number, physical or logical.")
    for name in ("sessions", "inter_op"):
        if min(getattr(profile, name), default=0) < 1:
            raise DocumentError(f"{path}: {name} is {list(getattr(profile, name))}.", remedy="List numbers from 1 on.")
    if not (profile.runtimes and profile.graph_optimisation and profile.threads):
        raise DocumentError(f"{path}: runtimes, threads and graph_optimisation must not be empty.")
    names = [recipe.name for recipe in profile.recipes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DocumentError(f"{path}: two recipes are called {twice[0]!r}.", remedy="Give each its own name.")


def outlines() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Name, description and names of the recipes of all built-in profiles; read, not checked: that takes longer.

    Raises:
        DocumentError: One of them has none of these, or is no YAML.
    """
    found = [documents.read_yaml(path) for path in sorted(profiles_folder().glob("*.yaml"))]
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
    return tuple(read_profile(path) for path in sorted(profiles_folder().glob("*.yaml")))


def find_profile(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        DocumentError: There is none; lists those there are.
    """
    profiles = load_profiles()
    for profile in profiles:
        if profile.name == name:
            return profile
    known = [profile.name for profile in profiles]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise DocumentError(f"there is no profile {name!r}.", remedy=f"{hint}Profiles: {', '.join(known)}.")


def match_profile(facts: DeviceFacts) -> Profile:
    """The most specific profile that a device fits: the one that asks for most flags.

    Raises:
        DocumentError: None fits.
    """
    from edgeopt_targets import registry  # not needed by those who only list profiles

    fitting = [profile for profile in load_profiles() if registry.target(profile.target).matches(profile, facts)]
    if not fitting:
        known = sorted({machine for profile in load_profiles() for machine in profile.machine})
        raise DocumentError(
            f"no profile fits this device ({facts.machine}, {facts.cpu or 'unknown CPU'}).",
            remedy=f"edgeopt has profiles for {', '.join(known)}.",
        )
    return max(fitting, key=lambda profile: len(profile.isa_all) + bool(profile.isa_any) + len(profile.isa_none))
