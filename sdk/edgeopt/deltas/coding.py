"""Compresses the streams of a patch with the best of what the board can read, within the memory it may take there."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeopt_runner.protocol.patch_format import BZ2, GRAINS, LZMA, RAW, ZLIB

_SAMPLE_BYTES = 128 << 10
_SAMPLES = 8
_LZMA_BASE_BYTES = 128 << 10
_BZ2_BASE_BYTES, _BZ2_LEVEL_BYTES = 100_000, 400_000
_LITERAL_BITS = (0, 3)
_WORTH_SLOWNESS = 0.99
"""What bz2 and LZMA must make of what zlib gives: they take many times longer, here and on the board."""


@dataclass(frozen=True)
class Coder:
    """A way to compress: the codec that reads it, and the way itself."""

    codec: int
    compress: Callable[[bytes], bytes]


@dataclass(frozen=True)
class CodedStream:
    """A stream as it is sent.

    Attributes:
        grain: Bits of each byte that a part has.
        plain_bytes: What it holds.
        parts: Codec and content of each part.
    """

    grain: int
    plain_bytes: int
    parts: tuple[tuple[int, bytes], ...]


def encode(plain: bytes, algorithms: Sequence[str], limit_bytes: int, grains: Sequence[int] = GRAINS) -> CodedStream:
    """Compress a stream, in the grain and with the coders that do best on samples of it.

    Args:
        plain: What it holds.
        algorithms: What the board reads: ``lzma``, ``bz2``; ``zlib`` always, and unknown names are passed over.
        limit_bytes: What the decoder may take.
        grains: Those to choose from.
    """
    sample = _sample(plain)
    fast, slow = list(_fast()), list(_slow(algorithms, limit_bytes))
    ways = {grain: [_best(part, fast, slow if grain == 8 else []) for part in split(sample, grain)] for grain in grains}
    grain = min(grains, key=lambda one: sum(size for size, _ in ways[one]))
    parts = zip(split(plain, grain), (coder for _, coder in ways[grain]), strict=True)
    return CodedStream(grain, len(plain), tuple(_coded(part, coder) for part, coder in parts))


def split(plain: bytes, grain: int) -> list[bytes]:
    """The parts of a stream: `grain` bits of each byte, packed, from the lowest bits up."""
    each = 8 // grain
    padded = np.frombuffer(plain + bytes(-len(plain) % each), np.uint8).reshape(-1, each)
    mask, shifts = np.uint8((1 << grain) - 1), np.arange(0, 8, grain, dtype=np.uint8)
    bits = ((padded >> shift) & mask for shift in shifts)
    return [np.bitwise_or.reduce(one << shifts, axis=1, dtype=np.uint8).tobytes() for one in bits]


def _best(part: bytes, fast: Sequence[Coder], slow: Sequence[Coder]) -> tuple[float, Coder | None]:
    """The size that a part comes to, and the coder; none where it is best left as it is."""
    sizes: list[tuple[float, Coder | None]] = [(len(part), None)]
    sizes += [(len(coder.compress(part)), coder) for coder in fast]
    sizes += [(len(coder.compress(part)) / _WORTH_SLOWNESS, coder) for coder in slow]
    return min(sizes, key=lambda one: one[0])


def _coded(part: bytes, coder: Coder | None) -> tuple[int, bytes]:
    if coder is None:
        return RAW, part
    found = coder.compress(part)
    return (coder.codec, found) if len(found) < len(part) else (RAW, part)


def _fast() -> Iterator[Coder]:
    for level, strategy in ((6, zlib.Z_DEFAULT_STRATEGY), (9, zlib.Z_RLE), (9, zlib.Z_HUFFMAN_ONLY)):
        yield Coder(ZLIB, _zlib(level, strategy))


def _slow(algorithms: Sequence[str], limit_bytes: int) -> Iterator[Coder]:
    level = min(9, (limit_bytes - _BZ2_BASE_BYTES) // _BZ2_LEVEL_BYTES)
    if "bz2" in algorithms and level > 0:
        yield Coder(BZ2, lambda plain: bz2.compress(plain, level))
    if "lzma" in algorithms:
        for bits in _LITERAL_BITS:
            yield Coder(LZMA, _lzma(bits, limit_bytes))


def _zlib(level: int, strategy: int) -> Callable[[bytes], bytes]:
    def compress(plain: bytes) -> bytes:
        coder = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        return coder.compress(plain) + coder.flush()

    return compress


def _lzma(literal_bits: int, limit_bytes: int) -> Callable[[bytes], bytes]:
    """LZMA with as long a memory as the board allows; planes have no alignment, so no bits of the position count."""
    window = 1 << max(12, (max(limit_bytes - _LZMA_BASE_BYTES, 1)).bit_length() - 1)
    settings = {"id": lzma.FILTER_LZMA1, "dict_size": window, "lc": literal_bits, "lp": 0, "pb": 0}
    effort = {"mode": lzma.MODE_NORMAL, "nice_len": 64, "mf": lzma.MF_BT4}
    return lambda plain: lzma.compress(plain, format=lzma.FORMAT_ALONE, filters=[{**settings, **effort}])


def _sample(plain: bytes) -> bytes:
    """All of it, or parts that are spread evenly."""
    if len(plain) <= _SAMPLE_BYTES:
        return plain
    part = _SAMPLE_BYTES // _SAMPLES
    starts = ((len(plain) - part) * number // (_SAMPLES - 1) for number in range(_SAMPLES))
    return b"".join(plain[start : start + part] for start in starts)
