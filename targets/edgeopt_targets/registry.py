"""Finds targets by entry-point name (`edgeopt.targets`)."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgeopt.errors import DocumentError
from edgeopt_targets._base import Target

GROUP = "edgeopt.targets"


def target_names() -> tuple[str, ...]:
    """Names of all installed targets, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def target(name: str) -> Target:
    """The target that profiles call `name`.

    Raises:
        DocumentError: No such target (lists those there are), or its package does not import.
    """
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        raise DocumentError(f"there is no target {name!r}.", remedy=f"Installed targets: {', '.join(target_names())}.")
    try:
        found: Target = point.load()()
    except (ImportError, AttributeError) as error:
        raise DocumentError(f"target {name!r} ({point.value}) cannot be loaded: {error}.") from None
    return found
