"""Finds bytes that two files share wherever they moved: chunks cut where the content says so, then looked up.

W. Xia and others: FastCDC, a fast and efficient content-defined chunking approach for data deduplication, 2016; the
rolling hash is its Gear. For retrained weights this finds nothing; it serves what lies between tensors, and formats
that we cannot walk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_SHORTEST, _LONGEST = 128, 8192
_CUT_MASK = np.uint32(0x1FF << 23)  # one place in 512, by the bits that all 32 last bytes have a say in
_STEP_BYTES = 1 << 20
_WINDOW = 32
_GEAR = np.frombuffer(b"".join(hashlib.sha256(b"gear %d" % n).digest()[:4] for n in range(256)), "<u4")


@dataclass(frozen=True)
class Match:
    """Bytes that are the same in both: `length` from `offset` of the target on, and from `source` of the base on."""

    offset: int
    source: int
    length: int


def cuts(data: Bytes) -> list[int]:
    """Ends of the chunks of `data`, rising; the last is its length."""
    places = np.concatenate(list(_candidates(data)) or [np.zeros(0, np.int64)])
    found, last = [], 0
    while last < len(data):
        index = int(np.searchsorted(places, last + _SHORTEST))
        cut = int(places[index]) if index < len(places) else len(data)
        last = min(cut, last + _LONGEST, len(data))
        found.append(last)
    return found


def _candidates(data: Bytes) -> Iterator[NDArray[np.int64]]:
    """Places where the hash of the bytes before them says to cut."""
    for start in range(0, len(data), _STEP_BYTES):
        first = max(0, start - _WINDOW)
        total = _GEAR[data[first : start + _STEP_BYTES]]
        for power in (1, 2, 4, 8, 16):  # the hash of 2n bytes from two of n
            shifted = np.zeros_like(total)
            shifted[power:] = total[:-power] << np.uint32(power)
            total = total + shifted
        places = np.flatnonzero((total & _CUT_MASK) == 0) + first + 1
        yield places[places > start]


def index(data: Bytes) -> dict[bytes, int]:
    """Where each chunk of `data` begins, by its digest; the first of equal ones."""
    found: dict[bytes, int] = {}
    for start, end in _spans(data):
        found.setdefault(_digest(data[start:end]), start)
    return found


def matches(known: dict[bytes, int], data: Bytes) -> list[Match]:
    """What of `data` the file with the index `known` has too; neighbours that belong together are one match."""
    found: list[Match] = []
    for start, end in _spans(data):
        source = known.get(_digest(data[start:end]))
        if source is None:
            continue
        last = found[-1] if found else Match(-1, -1, 0)
        if (last.offset + last.length, last.source + last.length) == (start, source):
            found[-1] = Match(last.offset, last.source, last.length + end - start)
        else:
            found.append(Match(start, source, end - start))
    return found


def _spans(data: Bytes) -> Iterator[tuple[int, int]]:
    start = 0
    for end in cuts(data):
        yield start, end
        start = end


def _digest(data: Bytes) -> bytes:
    return hashlib.blake2b(data.tobytes(), digest_size=16).digest()
