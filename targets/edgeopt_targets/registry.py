"""Finds targets by entry-point name (`edgeopt.targets`)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from edgeopt.errors import DocumentError
from edgeopt_targets._base import Target

GROUP = "edgeopt.targets"


@cache
def _points() -> dict[str, EntryPoint]:
    """Installed targets by name, read once: that takes a twentieth of a second."""
    return {point.name: point for point in entry_points(group=GROUP)}


def target_names() -> tuple[str, ...]:
    """Names of all installed targets, sorted."""
    return tuple(sorted(_points()))


def target(name: str) -> Target:
    """The target that profiles call `name`.

    Raises:
        DocumentError: No such target (lists those there are), or its package does not import.
    """
    point = _points().get(name)
    if point is None:
        raise DocumentError(f"there is no target {name!r}.", remedy=f"Installed targets: {', '.join(target_names())}.")
    try:
        found: Target = point.load()()
    except (ImportError, AttributeError) as error:
        raise DocumentError(f"target {name!r} ({point.value}) cannot be loaded: {error}.") from None
    return found
