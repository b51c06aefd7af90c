"""The board's verifier says what cryptography and OpenSSL say, and refuses weak keys that these let pass."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt_runner.trust import ed25519

ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
# RFC 8032, section 7.1: public key, message, signature
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
# every point whose order divides 8, in every encoding that decoders take
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


def by_cryptography(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def by_openssl(folder: Path, public: bytes, signature: bytes, message: bytes) -> bool:
    header = bytes.fromhex("302a300506032b6570032100")
    for name, data in (("key", header + public), ("signature", signature), ("message", message)):
        (folder / name).write_bytes(data)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin"]
    command += ["-in", "message", "-sigfile", "signature"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_standard_verify_and_no_bit_may_change(public: str, message: str, signature: str) -> None:
    key, data, signed = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519.verify(key, signed, data)
    assert not ed25519.verify(key, signed, data + b"x")
    for bit in range(0, 512, 37):
        spoiled = bytearray(signed)
        spoiled[bit // 8] ^= 1 << bit % 8
        assert not ed25519.verify(key, bytes(spoiled), data)


@settings(max_examples=60, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), flip=st.integers(-1, 511))
def test_it_agrees_with_cryptography(seed: bytes, message: bytes, flip: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), bytearray(private.sign(message))
    if flip >= 0:
        signature[flip // 8] ^= 1 << flip % 8
    assert ed25519.verify(public, bytes(signature), message) == by_cryptography(public, bytes(signature), message)


@settings(max_examples=60, deadline=None)
@given(public=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64))
def test_noise_is_refused_and_never_raises(public: bytes, signature: bytes) -> None:
    assert not ed25519.verify(public, signature, b"message")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this computer")
def test_all_three_agree_on_good_spoiled_and_malleable_signatures(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public, message = private.public_key().public_bytes_raw(), b"a release"
    good = private.sign(message)
    s = int.from_bytes(good[32:], "little")
    malleable = good[:32] + (s + ORDER).to_bytes(32, "little")
    for signature in (good, malleable, good[:32] + bytes(32), bytes(32) + good[32:], good[32:] + good[:32]):
        expected = signature == good
        assert ed25519.verify(public, signature, message) == expected
        assert by_cryptography(public, signature, message) == expected
        assert by_openssl(tmp_path, public, signature, message) == expected


@pytest.mark.parametrize("public", SMALL)
def test_a_key_of_small_order_signs_nothing(public: str) -> None:
    """With such a key ``R = A, S = 0`` is good for one message in a few, and OpenSSL takes it."""
    key = bytes.fromhex(public)
    for number in range(16):
        message = b"%d" % number
        for r in (key, bytes.fromhex(SMALL[0])):
            assert not ed25519.verify(key, r + bytes(32), message)


def test_lengths_other_than_those_of_the_standard_are_refused() -> None:
    public, _, signature = (bytes.fromhex(part) for part in VECTORS[0])
    assert not ed25519.verify(public[:-1], signature, b"")
    assert not ed25519.verify(public + b"\0", signature, b"")
    assert not ed25519.verify(public, signature[:-1], b"")
    assert not ed25519.verify(public, signature + b"\0", b"")


def test_a_y_beyond_the_field_is_refused() -> None:
    for y in range(P, 2**255):
        assert not ed25519.verify(y.to_bytes(32, "little"), bytes(64), b"")
