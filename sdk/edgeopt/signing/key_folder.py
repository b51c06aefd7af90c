"""Private keys on disk: one Ed25519 key a file, readable by its owner only, in the format of OpenSSH.

That format, not PKCS#8: a passphrase is stretched with bcrypt, and ``ssh-keygen -p`` changes it.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from edgeopt import documents
from edgeopt.errors import SigningError
from edgeopt.home import home

PASSPHRASE_VARIABLE = "EDGEOPT_KEY_PASSPHRASE"
Ask = Callable[[str], str]
"""Gives the passphrase of the key file that it is told."""

_ROUNDS = 24  # of bcrypt, as ssh-keygen has it
_LONGEST_BYTES = 16384


def ask_passphrase(name: str) -> str:
    """``$EDGEOPT_KEY_PASSPHRASE``, or what is typed on the terminal.

    Raises:
        SigningError: There is neither.
    """
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise SigningError(f"key {name} is locked with a passphrase.", remedy=f"Set {PASSPHRASE_VARIABLE}.")
    return getpass.getpass(f"Passphrase of {name}: ")


def private_text(signer: CryptoSigner, passphrase: str | None) -> bytes:
    """The private key as a file."""
    if passphrase is None:
        return signer._private_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    locked = PrivateFormat.OpenSSH.encryption_builder().kdf_rounds(_ROUNDS).build(passphrase.encode())
    return signer._private_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, locked)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, never over another one.

    Raises:
        SigningError: It exists, or cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise SigningError(f"cannot write {path}: {error.strerror}.", remedy="Name another place.") from None


def public_document(key: Key) -> dict[str, object]:
    """A public key as a file has it."""
    return {"keyid": key.keyid, **key.to_dict()}


def read_public(path: Path) -> SSlibKey:
    """A public key that somebody gave us.

    Raises:
        SigningError: The file cannot be read or has no Ed25519 key.
    """
    try:
        document = json.loads(path.read_bytes()[:_LONGEST_BYTES])
        raw = bytes.fromhex(document["keyval"]["public"])
        fits = document["keytype"] == document["scheme"] == "ed25519" and len(raw) == 32
    except OSError as error:
        raise SigningError(f"cannot read {path}: {error.strerror}.", remedy="Name a file that exists.") from None
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise SigningError(f"{path} has no public key.", remedy="Make one there: edgeopt keys new FILE; give FILE.pub.")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(raw))  # the identifier is computed, never believed


def read_private(path: Path, ask: Ask = ask_passphrase) -> CryptoSigner:
    """The key of a file.

    Raises:
        SigningError: It cannot be read, is no Ed25519 key, or the passphrase does not open it.
    """
    try:
        data = path.read_bytes()[:_LONGEST_BYTES]
    except OSError as error:
        raise SigningError(f"cannot read key {path}: {error.strerror}.", remedy="Put the key back there.") from None
    private: object
    try:
        private = load_ssh_private_key(data, None)
    except TypeError:
        private = _unlock(path, data, ask(path.name))
    except ValueError:
        raise SigningError(
            f"{path} is not a private key of edgeopt keys.", remedy="Restore it from its copy."
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningError(f"{path} is not an Ed25519 key.", remedy="Make one: edgeopt keys new FILE.")
    return CryptoSigner(private)


def _unlock(path: Path, data: bytes, passphrase: str) -> object:
    try:
        return load_ssh_private_key(data, passphrase.encode())
    except ValueError:
        raise SigningError(f"the passphrase does not open {path}.", remedy="Give the right one.") from None


def new_key(path: Path, passphrase: str | None) -> CryptoSigner:
    """Make a key: `path` is private, ``<path>.pub`` may be given to anybody.

    Raises:
        SigningError: A file is there already, or cannot be written.
    """
    signer = CryptoSigner.generate_ed25519()
    write_private(path, private_text(signer, passphrase))
    documents.write_atomically(
        path.with_name(path.name + ".pub"), (json.dumps(public_document(signer.public_key), indent=1) + "\n").encode()
    )
    return signer


class KeyFolder:
    """The folder of private keys.

    Args:
        folder: Default: ``keys`` in `edgeopt.home`.
        ask: Gives passphrases.
    """

    def __init__(self, folder: Path | None = None, ask: Ask = ask_passphrase) -> None:
        self.folder = folder or home() / "keys"
        self._ask = ask
        self._open: dict[str, CryptoSigner] = {}

    def create(self, role: str, passphrase: str | None) -> CryptoSigner:
        """Make a key for a role. Raises SigningError."""
        signer = CryptoSigner.generate_ed25519()
        write_private(self._path(role, signer.public_key.keyid), private_text(signer, passphrase))
        self._open[signer.public_key.keyid] = signer
        return signer

    def _path(self, role: str, keyid: str) -> Path:
        return self.folder / f"{role}-{keyid[:16]}.key"

    def find(self, keyid: str) -> Path | None:
        """The file of a key, if it is here."""
        return next(iter(sorted(self.folder.glob(f"*-{keyid[:16]}.key"))), None)

    def discard(self, keyid: str) -> None:
        """Delete a key that was made for what did not come about."""
        path = self.find(keyid)
        if path is not None:
            path.unlink()
        self._open.pop(keyid, None)

    def retire(self, counting: set[str]) -> None:
        """Put keys that no longer count into the folder ``retired``."""
        wanted = {keyid[:16] for keyid in counting}
        for path in self.folder.glob("*.key"):
            if path.stem.rpartition("-")[2] not in wanted:
                (self.folder / "retired").mkdir(mode=0o700, exist_ok=True)
                path.replace(self.folder / "retired" / path.name)

    def signer(self, key: Key) -> CryptoSigner | None:
        """The private half of a key; ``None`` where it is not here.

        Raises:
            SigningError: It is here and cannot be read or unlocked, or is another key.
        """
        if key.keyid not in self._open:
            path = self.find(key.keyid)
            if path is None:
                return None
            signer = read_private(path, self._ask)
            if signer.public_key.keyval != key.keyval:
                raise SigningError(f"{path} is not key {key.keyid[:16]}.", remedy="Restore it from its copy.")
            self._open[key.keyid] = CryptoSigner(signer._private_key, SSlibKey.from_dict(key.keyid, key.to_dict()))
        return self._open[key.keyid]
