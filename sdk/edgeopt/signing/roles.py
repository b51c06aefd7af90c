"""The roles that sign a tree of releases, and for how long what they sign is good."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.errors import UsageError

DAY_SECONDS = 86400
ROLLOUTS_PATHS = ("rollouts/*",)
"""What the delegated role may sign: who should run a release now, never what a release is."""


@dataclass(frozen=True)
class RolePolicy:
    """What a role is for.

    Attributes:
        name: As in the metadata.
        offline: Whether its key is locked with a passphrase and should leave this computer; the others sign unattended.
        lifetime_seconds: How long a signature is good.
        purpose: For people.
    """

    name: str
    offline: bool
    lifetime_seconds: int
    purpose: str


ROOT = RolePolicy("root", True, 365 * DAY_SECONDS, "says whose keys count")
TARGETS = RolePolicy("targets", True, 90 * DAY_SECONDS, "signs releases")
SNAPSHOT = RolePolicy("snapshot", False, 7 * DAY_SECONDS, "says which files belong together")
TIMESTAMP = RolePolicy("timestamp", False, DAY_SECONDS, "says what is newest, and answers boards")
ROLLOUTS = RolePolicy("rollouts", False, 7 * DAY_SECONDS, "says which boards update now")
POLICIES = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP, ROLLOUTS)


def policy(name: str) -> RolePolicy:
    """The policy of a role.

    Raises:
        UsageError: There is no role of that name.
    """
    for known in POLICIES:
        if known.name == name:
            return known
    raise UsageError(
        f"there is no role {name!r}.", remedy="Roles: " + ", ".join(known.name for known in POLICIES) + "."
    )
