"""The next set of metadata of a tree, from what is changed in it to signed files on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuf.api.metadata import Key, Metadata, VerificationResult

from edgeopt.errors import EXIT_WAITS, SigningError
from edgeopt.signing import roles
from edgeopt.signing.files import MetadataFiles, MetadataSet, expiry, name_versions, parse, write_public
from edgeopt.signing.key_folder import KeyFolder

ROOT, TARGETS, ROLLOUTS, SNAPSHOT, TIMESTAMP = "root", "targets", "rollouts", "snapshot", "timestamp"

_ORDER = (ROOT, TARGETS, ROLLOUTS, SNAPSHOT, TIMESTAMP)


class PendingError(SigningError):
    """What was asked for is made, and counts once other people have signed it, too.

    Attributes:
        path: The file that they are to sign.
    """

    exit_code = EXIT_WAITS

    def __init__(self, path: Path, role: str, result: VerificationResult) -> None:
        self.path = path
        super().__init__(
            f"it waits: {role} is signed by {len(result.signed)} of the {result.threshold} keys that it needs, "
            f"and counts once {path} has them all.",
            remedy=f"Give that file to another holder: edgeopt keys sign {path.name} --key KEY. "
            f"Then here: edgeopt keys import {path.name}.",
        )


class Edition:
    """The next set of metadata.

    Args:
        files: Where the current set is, and the next goes.
        keys: Private keys that are here.
        now: Seconds since the epoch.

    Attributes:
        now: As given.
        next: The set in the making; change it, and `renew` each role that is changed.
    """

    def __init__(self, files: MetadataFiles, keys: KeyFolder, now: float) -> None:
        self._files, self._keys, self.now = files, keys, now
        self._before, self.next = files.load(), files.load()
        self._changed: set[str] = set()
        self._taken: set[str] = set()

    def renew(self, role: str) -> None:
        """Give a role's file its next version and a new expiry; it is signed at the end."""
        if role not in self._changed:
            self._changed.add(role)
            file = self.next.of(role)
            file.signed.version += 1
            file.signed.expires = expiry(self.now, roles.policy(role).lifetime_seconds)

    def take(self, role: str, file: Metadata[Any]) -> None:
        """Take a file that others have signed as the next one of its role; it is signed no more."""
        self._changed.add(role)
        self._taken.add(role)
        setattr(self.next, role, file)

    def finish(self) -> frozenset[str]:
        """Sign what changed and what the keys that count did not sign, and write it, the root last.

        Returns:
            The roles that have new files.

        Raises:
            PendingError: Keys of other people are needed; nothing but files that wait was written.
            SigningError: A key is missing or locked, or the root has expired.
        """
        short = {}
        for role in _ORDER:
            if self._names_others(role) or (role != ROOT and role not in self._changed and self.next.unsigned(role)):
                self.renew(role)
            if role in self._changed:
                self._sign(role)
                missing = shortfall(self._before, self.next, role)
                if missing is not None:
                    short[role] = self._missing(role, missing)
        if short:
            raise self._keep_pending(short)
        self._require_current_root()
        self._files.commit(self.next, frozenset(self._changed))
        if ROOT in self._changed:
            self._files.write(ROOT, self.next.root)
        return frozenset(self._changed)

    def _names_others(self, role: str) -> bool:
        """Whether a role names versions that have changed."""
        named = {SNAPSHOT: {TARGETS, ROLLOUTS}, TIMESTAMP: {SNAPSHOT}}.get(role, set())
        if named & self._changed:
            name_versions(self.next)
        return bool(named & self._changed)

    def _require_current_root(self) -> None:
        expires = self.next.root.signed.expires
        if expires.timestamp() <= self.now:
            raise SigningError(
                f"the root expired on {expires:%Y-%m-%d}.", remedy="Sign it again: edgeopt keys refresh root."
            )

    def _sign(self, role: str) -> None:
        """Sign with the keys that count now and with those that counted before: either side of the root may see it."""
        file = self.next.of(role)
        if role not in self._taken:
            file.signatures.clear()
            keys = {key.keyid: key for key in (*keys_of(self._before, role), *keys_of(self.next, role))}
            signers = [self._keys.signer(key) for key in keys.values()]
            for signer in signers:
                if signer is not None:
                    file.sign(signer, append=True)

    def _missing(self, role: str, missing: VerificationResult) -> VerificationResult:
        """What is missing, where a person can help.

        Raises:
            SigningError: The role signs unattended, so its key should be here.
        """
        if roles.policy(role).offline:
            return missing
        lost = next(iter(missing.unsigned), "KEY")[:16]
        raise SigningError(
            f"no key of {role} is in {self._keys.folder}.",
            remedy=f"Put it back, or give the role another: edgeopt keys rotate {role} --replace {lost}.",
        )

    def _keep_pending(self, short: dict[str, VerificationResult]) -> PendingError:
        """Keep what people sign, all that belongs together or, where something else waits, nothing."""
        tree = self._files.folder.parent
        together = {role: self.next.of(role) for role in (ROOT, TARGETS) if role in self._changed}
        for role, file in together.items():
            refuse_other(tree, role, file)
        paths = {role: keep_pending(tree, role, file) for role, file in together.items()}
        role = next(iter(short))
        return PendingError(paths[role], role, short[role])


def keys_of(current: MetadataSet, role: str) -> list[Key]:
    """Public keys that count for a role."""
    delegator = current.targets.signed if role == ROLLOUTS else current.root.signed
    return [delegator.get_key(keyid) for keyid in delegator.get_delegated_role(role).keyids]


def shortfall(before: MetadataSet, current: MetadataSet, role: str) -> VerificationResult | None:
    """Who has still to sign a role's file; ``None``: enough have."""
    file = current.of(role)
    delegators: list[Any] = [current.targets.signed if role == ROLLOUTS else current.root.signed]
    if role == ROOT:
        delegators.insert(0, before.root.signed)
    for delegator in delegators:
        result: VerificationResult = delegator.get_verification_result(role, file.signed_bytes, file.signatures)
        if not result.verified:
            return result
    return None


def unsigned_roles(current: MetadataSet) -> list[str]:
    """Roles below the root whose files the keys that count have not signed."""
    return [policy.name for policy in roles.POLICIES if policy is not roles.ROOT and current.unsigned(policy.name)]


def old_roles(current: MetadataSet, now: float) -> list[str]:
    """Roles that sign unattended and whose files are past half of their life."""
    return [
        policy.name
        for policy in roles.POLICIES
        if not policy.offline and current.of(policy.name).signed.expires.timestamp() - now < policy.lifetime_seconds / 2
    ]


def pending_path(tree: Path, role: str, version: int) -> Path:
    """Where a file waits for signatures."""
    return tree / "pending" / f"{version}.{role}.json"


def keep_pending(tree: Path, role: str, file: Metadata[Any]) -> Path:
    """Keep a file that waits for signatures, in place of one with the same content.

    Raises:
        SigningError: Another change waits there; what was signed of it would be lost.
    """
    refuse_other(tree, role, file)
    path = pending_path(tree, role, file.signed.version)
    write_public(path, file.to_bytes())
    return path


def refuse_other(tree: Path, role: str, file: Metadata[Any]) -> None:
    """Refuse a file in whose place another one waits for signatures.

    Raises:
        SigningError: One does, or it cannot be read.
    """
    path = pending_path(tree, role, file.signed.version)
    if not path.exists():
        return
    waits = parse(type(file.signed), path.read_bytes(), str(path))
    if waits.signed_bytes != file.signed_bytes:
        raise SigningError(
            f"another change of {role} waits for signatures in {path}; this one was not made.",
            remedy=f"Have that one signed first: edgeopt keys import {path.name}; or give it up: delete {path}.",
        )
