"""Verifies Ed25519 signatures in pure Python, so that every board gives the same answer whatever is installed on it.

Not by `cryptography` or the `openssl` command where a board happens to have them: to import the one and to start the
other takes as long as the handful of signatures of an update (milliseconds each here), and neither refuses keys of
small order, so that boards would differ. Tests hold this module to both.

S. Josefsson, I. Liusvaara, Edwards-Curve Digital Signature Algorithm, RFC 8032 (2017), section 5.1.7, without the
cofactor; refused besides: S at or above the group's order, a y at or above p, and public keys of small order.
"""

import functools
import hashlib
from typing import Optional, Tuple

Point = Tuple[int, int, int, int]
"""(X, Y, Z, T) with x = X/Z, y = Y/Z, x*y = T/Z."""

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group that signatures live in."""

_P = 2**255 - 19
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_NEUTRAL = (0, 1, 1, 0)


def _add(a: Point, b: Point) -> Point:
    """RFC 8032, section 5.1.4; complete, so it doubles too."""
    left = (a[1] - a[0]) * (b[1] - b[0]) % _P
    right = (a[1] + a[0]) * (b[1] + b[0]) % _P
    c = 2 * a[3] * b[3] * _D % _P
    d = 2 * a[2] * b[2] % _P
    e, f, g, h = right - left, d - c, d + c, right + left
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(a: Point) -> Point:
    x, y, z, _ = a
    xx, yy = x * x % _P, y * y % _P
    h = xx + yy
    e = h - (x + y) * (x + y)
    g = xx - yy
    f = 2 * z * z + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _decode(data: bytes) -> Optional[Point]:
    """The point of 32 bytes (section 5.1.3); ``None`` where they are not the one encoding of a point."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * _SQRT_MINUS_1 % _P
        if (v * x * x - u) % _P:
            return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _encode(a: Point) -> bytes:
    inverse = pow(a[2], _P - 2, _P)
    x, y = a[0] * inverse % _P, a[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _is_small(a: Point) -> bool:
    """Whether eight times the point is the neutral one: such a "key" signs nearly anything."""
    x, y, z, _ = _double(_double(_double(a)))
    return x == 0 and y == z


def _sum_of_products(m: int, a: Point, n: int, b: Point) -> Point:
    """``[m]a + [n]b`` (E. G. Straus, Addition Chains of Vectors, 1964)."""
    table = (_NEUTRAL, a, b, _add(a, b))
    total = _NEUTRAL
    for bit in range(max(m.bit_length(), n.bit_length()) - 1, -1, -1):
        total = _double(total)
        choice = (m >> bit & 1) | (n >> bit & 1) << 1
        if choice:
            total = _add(total, table[choice])
    return total


_BASE = _decode((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))


def multiple_of_base(factor: int) -> bytes:
    """``[factor]B``, encoded. Not in constant time."""
    assert _BASE is not None
    return _encode(_sum_of_products(factor, _BASE, 0, _NEUTRAL))


@functools.lru_cache(maxsize=32)
def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature of 64 bytes over `message` is the public key's (32 bytes). Never raises for bad bytes.

    What was asked last is known: a visit asks of the same files when it brings them and when it uses them.
    """
    if len(public) != 32 or len(signature) != 64 or _BASE is None:
        return False
    key, s = _decode(public), int.from_bytes(signature[32:], "little")
    if key is None or s >= ORDER or _is_small(key):
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    h = int.from_bytes(digest, "little") % ORDER
    minus_key = (_P - key[0], key[1], 1, _P - key[3])
    return _encode(_sum_of_products(s, _BASE, h, minus_key)) == signature[:32]
