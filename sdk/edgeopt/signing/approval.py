"""Metadata that several people sign: on each one's own computer, in files that travel between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from edgeopt.errors import SigningError
from edgeopt.signing import roles
from edgeopt.signing.edition import ROOT, TARGETS, keep_pending, pending_path
from edgeopt.signing.files import parse
from edgeopt.signing.repository import Repository
from edgeopt.signing.rotation import counting

_LONGEST_BYTES = 5_000_000


def read(path: Path) -> Metadata[Any]:
    """A file that waits for signatures: of root or targets.

    Raises:
        SigningError: It cannot be read, or is nothing of the kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SigningError(f"cannot read {path}: {error.strerror}.", remedy="Name a file that exists.") from None
    if len(data) > _LONGEST_BYTES:
        raise SigningError(f"{path} is {len(data)} bytes long.", remedy="Name a file of edgeopt keys.")
    try:
        return parse(Root, data, str(path))
    except SigningError:
        return parse(Targets, data, str(path))


def describe(file: Metadata[Any]) -> tuple[str, ...]:
    """What somebody signs with this file, in lines."""
    signed = file.signed
    lines = [f"{signed.type} version {signed.version}, good until {signed.expires:%Y-%m-%d}"]
    if isinstance(signed, Root):
        for name, role in sorted(signed.roles.items()):
            keys = ", ".join(keyid[:16] for keyid in role.keyids)
            lines.append(f"{name}: {role.threshold} of {keys}")
    else:
        lines += [f"{path} {file.hashes.get('sha256', '')}" for path, file in sorted(signed.targets.items())]
        for role in (signed.delegations.roles or {}).values() if signed.delegations else ():
            lines.append(
                f"{role.name} may sign {', '.join(role.paths or ())}: {role.threshold} of {len(role.keyids)} keys"
            )
    return tuple(lines)


def sign(path: Path, signer: CryptoSigner) -> Metadata[Any]:
    """Add a signature to a file; nobody is asked whether the key counts, for that the tree is needed.

    Raises:
        SigningError: The file cannot be read or written.
    """
    file = read(path)
    file.sign(signer, append=True)
    try:
        path.write_bytes(file.to_bytes())
    except OSError as error:
        raise SigningError(f"cannot write {path}: {error.strerror}.", remedy="Copy it where you may write.") from None
    return file


def bring_in(repository: Repository, path: Path, now: float) -> frozenset[str]:
    """Take a file that others signed; with enough signatures it becomes the next of its role.

    Returns:
        The roles that have new files.

    Raises:
        PendingError: More keys have to sign; the signatures so far are kept.
        SigningError: It is not the version that follows, or a key that signs unattended is missing.
    """
    file = read(path)
    role = ROOT if isinstance(file.signed, Root) else TARGETS
    with repository.changing():
        edition = repository.edition(now)
        expected = edition.next.of(role).signed.version + 1
        if file.signed.version != expected:
            raise SigningError(
                f"{path} is {role} version {file.signed.version}; version {expected} is next.",
                remedy="Make the change again on the newest tree.",
            )
        _merge(repository, role, file)
        keep_pending(repository.folder, role, file)
        together = waiting(repository)
        for one in together:
            pending = read(one)
            edition.take(ROOT if isinstance(pending.signed, Root) else TARGETS, pending)
        written = edition.finish()
        for one in together:
            one.unlink()
    repository.keys.retire(counting(repository))
    return written


def _merge(repository: Repository, role: str, file: Metadata[Any]) -> None:
    """Add the signatures that wait here already to a file with the same content."""
    path = pending_path(repository.folder, role, file.signed.version)
    if path.exists():
        waiting = read(path)
        if waiting.signed_bytes == file.signed_bytes:
            file.signatures = {**waiting.signatures, **file.signatures}


def waiting(repository: Repository) -> tuple[Path, ...]:
    """Files that wait for signatures, and still could become the next of their role."""
    current = repository.current()
    paths = [
        pending_path(repository.folder, policy.name, current.of(policy.name).signed.version + 1)
        for policy in roles.POLICIES
        if policy.offline
    ]
    return tuple(path for path in paths if path.exists())
