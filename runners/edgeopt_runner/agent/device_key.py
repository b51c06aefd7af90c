"""The board's own key: made on the board, never leaves it; its public half goes to the host with the enrolment.

Signs reports only, so that whoever may write to the store cannot speak for a board. Ed25519 as in RFC 8032, section
5.1.6. Not in constant time: who can time this process on the board can read the key's file there.
"""

import hashlib
import os
from typing import Dict, Tuple

from edgeopt_runner import storage
from edgeopt_runner.agent import settings
from edgeopt_runner.trust import ed25519

_NAME = "device.key"
_BYTES = 32


def public(root: str) -> str:
    """The public key in hexadecimal; the pair is made where there is none."""
    return _scalar_and_public(_seed(root))[2].hex()


def signature(root: str, message: bytes) -> Dict[str, str]:
    """Key and signature of a message, in hexadecimal."""
    scalar, prefix, key = _scalar_and_public(_seed(root))
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ed25519.ORDER
    commitment = ed25519.multiple_of_base(nonce)
    challenge = int.from_bytes(hashlib.sha512(commitment + key + message).digest(), "little")
    answer = (nonce + challenge * scalar) % ed25519.ORDER
    return {"key": key.hex(), "sig": (commitment + answer.to_bytes(32, "little")).hex()}


def _seed(root: str) -> bytes:
    path = os.path.join(settings.folder(root), _NAME)
    try:
        with open(path, "rb") as stream:
            seed = stream.read(_BYTES + 1)
    except FileNotFoundError:
        seed = b""
    if len(seed) == _BYTES:
        return seed
    os.makedirs(settings.folder(root), mode=0o700, exist_ok=True)
    seed = os.urandom(_BYTES)
    before = os.umask(0o077)
    try:
        storage.write_atomically(path, seed)
    finally:
        os.umask(before)
    return seed


def _scalar_and_public(seed: bytes) -> Tuple[int, bytes, bytes]:
    """The secret scalar, the prefix of nonces, and the public key (RFC 8032, section 5.1.5)."""
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    return scalar, digest[32:], ed25519.multiple_of_base(scalar)
