"""Combines numbers of a patch with those of the base, block by block.

Whole numbers of any length do the arithmetic: on a board without NumPy they add a block about as fast as it is read.
"""

import functools
from typing import Sequence, Tuple

from edgeopt_runner.protocol.patch_format import COPY, DATA, XOR


def combined(kind: int, width: int, old: bytes, planes: Sequence[bytes]) -> bytes:
    """What an operation gives of a block.

    Args:
        kind: ``COPY``, ``DATA``, ``XOR`` or ``ADD``.
        width: Bytes of a number.
        old: The block of the base, of the result's length; not used by ``DATA``.
        planes: Bytes of the numbers in the patch, by plane; none for ``COPY``.
    """
    if kind == COPY:
        return old
    new = planes[0] if width == 1 else _interleaved(planes)
    if kind == DATA:
        return bytes(new)
    first, second = int.from_bytes(old, "little"), int.from_bytes(new, "little")
    mixed = first ^ second if kind == XOR else _added(first, second, width, len(old))
    return mixed.to_bytes(len(old), "little")


def _interleaved(planes: Sequence[bytes]) -> bytearray:
    block = bytearray(len(planes) * len(planes[0]))
    for place, plane in enumerate(planes):
        block[place :: len(planes)] = plane
    return block


def _added(old: int, folded: int, width: int, size: int) -> int:
    """Lane by lane: old + (folded >> 1, all bits turned over where folded is odd), modulo 256**width."""
    lows, tops, rests = _masks(width, size)
    odd = folded & lows
    change = ((folded >> 1) & rests) ^ ((odd << 8 * width) - odd)
    # adding all bits but the topmost carries into none of the neighbours; the topmost adds without carry
    return ((old & rests) + (change & rests)) ^ ((old ^ change) & tops)


@functools.lru_cache(maxsize=2)
def _masks(width: int, size: int) -> Tuple[int, int, int]:
    """Lowest bits, topmost bits, and all but the topmost bits, of lanes of `width` bytes in `size` bytes."""
    lows = int.from_bytes((b"\1" + bytes(width - 1)) * (size // width), "little")
    tops = lows << (8 * width - 1)
    return lows, tops, ((1 << 8 * size) - 1) ^ tops
