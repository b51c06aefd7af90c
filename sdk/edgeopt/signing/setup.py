"""Makes a usable set of keys and an empty signed tree in one go, for one person to begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, Targets, Timestamp

from edgeopt.errors import SigningError
from edgeopt.signing import roles
from edgeopt.signing.files import MetadataSet, expiry, name_versions
from edgeopt.signing.key_folder import private_text, write_private
from edgeopt.signing.repository import Repository

RECOVERY = "recovery"


@dataclass(frozen=True)
class NewKeys:
    """What was made.

    Attributes:
        folder: Of the private keys.
        recovery: Folder with copies of the root and targets keys, to be moved off this computer.
        keyids: By role.
    """

    folder: Path
    recovery: Path
    keyids: dict[str, str]


def initialise(repository: Repository, *, passphrase: str | None, recovery: Path | None = None, now: float) -> NewKeys:
    """Make one key for each role, and an empty tree that they have signed.

    Args:
        repository: Where; neither tree nor keys may be there.
        passphrase: Locks the keys of root and targets; ``None``: they lie open.
        recovery: Where copies of these two go; default: ``recovery`` in the folder of the keys.
        now: Seconds since the epoch.

    Raises:
        SigningError: Keys or a tree are there already, the passphrase is empty, or a file cannot be written.
    """
    _require_nothing(repository)
    if passphrase is not None and not passphrase:
        raise SigningError("the passphrase is empty.", remedy="Give one, or --no-passphrase.")
    place = recovery or repository.keys.folder / RECOVERY
    signers: dict[str, CryptoSigner] = {}
    for policy in roles.POLICIES:
        signers[policy.name] = repository.keys.create(policy.name, passphrase if policy.offline else None)
        if policy.offline:
            copy = place / f"{policy.name}-{signers[policy.name].public_key.keyid[:16]}.key"
            write_private(copy, private_text(signers[policy.name], passphrase))
    made = _first_set(signers, now)
    repository.files.write("root", made.root)
    repository.files.commit(made, frozenset(policy.name for policy in roles.POLICIES))
    return NewKeys(repository.keys.folder, place, {name: signer.public_key.keyid for name, signer in signers.items()})


def _require_nothing(repository: Repository) -> None:
    found = sorted(repository.keys.folder.glob("*.key"))
    if found or repository.files.exists():
        place = repository.keys.folder if found else repository.folder
        raise SigningError(
            f"there are keys already: {place}." if found else f"there is a signed tree already: {place}.",
            remedy="See edgeopt keys status; boards that are enrolled would not believe others.",
        )


def _first_set(signers: dict[str, CryptoSigner], now: float) -> MetadataSet:
    expires = {policy.name: expiry(now, policy.lifetime_seconds) for policy in roles.POLICIES}
    root = Root(expires=expires["root"])
    for name in root.roles:
        root.add_key(signers[name].public_key, name)
    online = signers["rollouts"].public_key
    role = DelegatedRole("rollouts", [online.keyid], 1, True, paths=list(roles.ROLLOUTS_PATHS))
    delegations = Delegations({online.keyid: online}, {"rollouts": role})
    made = MetadataSet(
        Metadata(root),
        Metadata(Targets(expires=expires["targets"], delegations=delegations)),
        Metadata(Targets(expires=expires["rollouts"])),
        Metadata(Snapshot(expires=expires["snapshot"])),
        Metadata(Timestamp(expires=expires["timestamp"])),
    )
    name_versions(made)
    for name, signer in signers.items():
        made.of(name).sign(signer)
    return made
