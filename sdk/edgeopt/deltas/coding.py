"""Compresses the streams of a patch with the best of what the board can read, within the memory it may take there."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence

from edgeopt_runner.protocol.patch_format import BZ2, LZMA, RAW, ZLIB

Coder = Callable[[bytes], bytes]

_SAMPLE_BYTES = 512 << 10
_SAMPLES = 8
_LZMA_BASE_BYTES = 128 << 10
_BZ2_BASE_BYTES, _BZ2_LEVEL_BYTES = 100_000, 400_000
_LITERAL_BITS = (0, 3)


def encode(plain: bytes, algorithms: Sequence[str], limit_bytes: int) -> tuple[int, bytes]:
    """Compress a stream.

    Args:
        plain: What it holds.
        algorithms: What the board reads: ``lzma``, ``bz2``; ``zlib`` always, and unknown names are passed over.
        limit_bytes: What the decoder may take.

    Returns:
        The codec, and the shortest that the stream became; as it is where nothing makes it shorter.
    """
    coders = list(_coders(algorithms, limit_bytes))
    sample = _sample(plain)
    tried = [(len(coder(sample)), order, codec, coder) for order, (codec, coder) in enumerate(coders)]
    size, _, codec, coder = min(tried, key=lambda one: one[:2])
    if size >= len(sample):
        return RAW, plain
    found = coder(plain)
    return (codec, found) if len(found) < len(plain) else (RAW, plain)


def _coders(algorithms: Sequence[str], limit_bytes: int) -> Iterator[tuple[int, Coder]]:
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY):
        yield ZLIB, _zlib(strategy)
    level = min(9, (limit_bytes - _BZ2_BASE_BYTES) // _BZ2_LEVEL_BYTES)
    if "bz2" in algorithms and level > 0:
        yield BZ2, lambda plain: bz2.compress(plain, level)
    if "lzma" in algorithms:
        for bits in _LITERAL_BITS:
            yield LZMA, _lzma(bits, limit_bytes)


def _zlib(strategy: int) -> Coder:
    def compress(plain: bytes) -> bytes:
        coder = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        return coder.compress(plain) + coder.flush()

    return compress


def _lzma(literal_bits: int, limit_bytes: int) -> Coder:
    """LZMA with as long a memory as the board allows; planes have no alignment, so no bits of the position count."""
    window = 1 << max(12, (max(limit_bytes - _LZMA_BASE_BYTES, 1)).bit_length() - 1)
    settings = {"id": lzma.FILTER_LZMA1, "dict_size": window, "lc": literal_bits, "lp": 0, "pb": 0}
    effort = {"mode": lzma.MODE_NORMAL, "nice_len": 273, "mf": lzma.MF_BT4}
    return lambda plain: lzma.compress(plain, format=lzma.FORMAT_ALONE, filters=[{**settings, **effort}])


def _sample(plain: bytes) -> bytes:
    """All of it, or parts that are spread evenly."""
    if len(plain) <= _SAMPLE_BYTES:
        return plain
    part = _SAMPLE_BYTES // _SAMPLES
    starts = ((len(plain) - part) * number // (_SAMPLES - 1) for number in range(_SAMPLES))
    return b"".join(plain[start : start + part] for start in starts)
