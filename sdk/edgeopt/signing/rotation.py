"""Whose keys count: replacing a role's key, adding and removing keys of people, and how many of them must sign."""

from __future__ import annotations

from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import Role

from edgeopt.errors import EdgeoptError, UsageError
from edgeopt.signing import roles
from edgeopt.signing.edition import ROLLOUTS, ROOT, TARGETS, Edition, PendingError
from edgeopt.signing.repository import Repository


class Holders:
    """The keys of one role, in an edition.

    Args:
        edition: In which they are changed; the role that names them is renewed, and so is theirs.
        role: Its name.

    Raises:
        UsageError: There is no such role.
    """

    def __init__(self, edition: Edition, role: str) -> None:
        self.role = roles.policy(role).name
        namer = TARGETS if self.role == ROLLOUTS else ROOT
        edition.renew(namer)
        self._namer: Any = edition.next.of(namer).signed

    def _described(self) -> Role:
        described: Role = self._namer.get_delegated_role(self.role)
        return described

    @property
    def keyids(self) -> list[str]:
        """Identifiers of the keys."""
        return list(self._described().keyids)

    def add(self, key: Key) -> None:
        """Let a key count. Raises UsageError where it does already."""
        if key.keyid in self.keyids:
            raise UsageError(f"key {key.keyid[:16]} signs for {self.role} already.", remedy="Give another key.")
        self._namer.add_key(key, self.role)

    def remove(self, keyid: str) -> None:
        """Let a key count no more; its first digits are enough.

        Raises:
            UsageError: No key, or more than one, begins so; or fewer would be left than must sign.
        """
        found = [known for known in self.keyids if keyid and known.startswith(keyid)]
        if len(found) != 1:
            known = ", ".join(name[:16] for name in self.keyids)
            raise UsageError(f"no one key of {self.role} begins with {keyid!r}.", remedy=f"Its keys: {known}.")
        self._namer.revoke_key(found[0], self.role)
        self.require_enough()

    def need(self, threshold: int) -> None:
        """Say how many keys must sign. Raises UsageError."""
        self._described().threshold = threshold
        self.require_enough()

    def require_enough(self) -> None:
        """Refuse a role that could never sign. Raises UsageError."""
        threshold, count = self._described().threshold, len(self.keyids)
        if not 1 <= threshold <= count:
            raise UsageError(
                f"{self.role} has {count} keys, so {threshold} of them cannot sign.", remedy="Add keys, or need fewer."
            )


def rotate(repository: Repository, role: str, *, replace: str | None, passphrase: str | None, now: float) -> str:
    """Replace keys of a role by a new one that is made here.

    Args:
        repository: The tree.
        role: Its name.
        replace: First digits of the key to replace; ``None``: those that are in the key folder.
        passphrase: Locks the new key, for root and targets; ``None``: it lies open.
        now: Seconds since the epoch.

    Returns:
        The new key's identifier.

    Raises:
        UsageError: There is no such role or key, or no key of the role is here.
        PendingError: Other people have to sign the new root.
        SigningError: A key is missing or locked.
    """
    with repository.changing():
        edition = repository.edition(now)
        holders = Holders(edition, role)
        leaving = [replace] if replace else [known for known in holders.keyids if repository.keys.find(known)]
        if not leaving:
            raise UsageError(
                f"no key of {role} is in {repository.keys.folder}.", remedy="Name the one to replace: --replace KEY."
            )
        created = repository.keys.create(role, passphrase if roles.policy(role).offline else None)
        try:
            holders.add(created.public_key)
            for keyid in leaving:
                holders.remove(keyid)
            edition.finish()
        except PendingError:
            raise  # the key is in the file that waits
        except EdgeoptError:
            repository.keys.discard(created.public_key.keyid)
            raise
    repository.keys.retire(counting(repository))
    return created.public_key.keyid


def change(
    repository: Repository,
    role: str,
    *,
    add: Key | None = None,
    remove: str | None = None,
    threshold: int | None = None,
    now: float,
) -> None:
    """Add or remove a key of a role, and say how many of its keys must sign.

    Raises:
        UsageError: There is no such role or key, or fewer keys would be left than must sign.
        PendingError: Other people have to sign the new root or targets.
        SigningError: A key is missing or locked.
    """
    with repository.changing():
        edition = repository.edition(now)
        holders = Holders(edition, role)
        if add is not None:
            holders.add(add)
        if remove is not None:
            holders.remove(remove)
        if threshold is not None:
            holders.need(threshold)
        edition.finish()
    repository.keys.retire(counting(repository))


def counting(repository: Repository) -> set[str]:
    """Identifiers of all keys that count in a tree."""
    current = repository.current()
    delegations = current.targets.signed.delegations
    return set(current.root.signed.keys) | set(delegations.keys if delegations is not None else ())
