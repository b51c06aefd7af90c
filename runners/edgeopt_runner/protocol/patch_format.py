"""The patch file: how a file is rebuilt from another that the board has, and what it does not have.

All numbers little-endian; sizes and offsets in bytes::

    head      HEAD: mark, SHA-256 and size of the base, SHA-256 and size of the result, numbers of parts and of
              operations, size of the table
    table     zlib, of one PART for each part of a stream and then one OPERATION each
    parts     one after the other, in the order of the table

The operations give the result from front to back. `COPY` takes bytes of the base; `DATA` takes them from the streams;
`XOR` and `ADD` combine bytes of the base with those of the streams. What comes from streams is numbers of `width`
bytes, taken apart into planes: all lowest bytes are in one stream, and so on up (a plane of the high bytes is nearly
constant, one of the low bytes nearly noise). So the streams of an operation follow from its kind and width, and each
operation goes on where the last one of that kind and width stopped. `ADD` adds numbers modulo 256**width, and its
numbers are signed ones folded (0, -1, 1, -2, ... are 0, 1, 2, 3, ...), so that small ones have empty high planes.

A stream has 8 / `grain` parts, each compressed by itself: of each of its bytes, the part 0 has the lowest `grain` bits,
packed from the lowest bits of the part's bytes on, and so on up. Differences of INT8 weights are hardly more than 0, 1
and 2: with four of them in a byte Huffman's code comes near to their entropy, which a whole bit for each is far from.

A patch without a base (its digest is zeros) is a file compressed.
"""

import struct
import zlib
from typing import Callable, Dict, NamedTuple, Tuple

MARK = b"edgeopt patch 1\n"
HEAD = struct.Struct("<16s32sQ32sQIII")
PART = struct.Struct("<BBBBBBHQQ")
OPERATION = struct.Struct("<BBHIQQ")

COPY, DATA, XOR, ADD = range(4)
WIDTHS = (1, 2, 4, 8)
GRAINS = (8, 4, 2)
RAW, ZLIB, BZ2, LZMA = range(4)
CODECS = {"zlib": ZLIB, "bz2": BZ2, "lzma": LZMA}
"""Codes of the algorithms by the names that the board gives them in ``hello``. Parts of bits are raw or zlib."""

MOST_PARTS = 64
MOST_OPERATIONS = 32768
MOST_TABLE_BYTES = MOST_PARTS * PART.size + MOST_OPERATIONS * OPERATION.size
DECODERS_BYTES = 3 << 20
"""What the decoders of bz2 and LZMA may take together on the board; one of zlib takes 48 KiB, and there are few."""

Key = Tuple[int, int, int]
"""Kind of the operations, their width, and the plane: what a stream belongs to."""

Part = NamedTuple("Part", [("codec", int), ("offset", int), ("coded_bytes", int)])
"""A part of a stream; `offset` is its place in the patch."""

Stream = NamedTuple("Stream", [("grain", int), ("plain_bytes", int), ("parts", Tuple[Part, ...])])
"""A stream of `plain_bytes`."""

Patch = NamedTuple(
    "Patch",
    [
        ("base", str),
        ("base_bytes", int),
        ("result", str),
        ("result_bytes", int),
        ("streams", Dict[Key, Stream]),
        ("operations", bytes),
    ],
)
"""A patch's head and table; `operations` are kept packed: tens of thousands of tuples would take megabytes."""


class BadPatch(ValueError):
    """The bytes are no sound patch."""


def decoder_share(streams: int) -> int:
    """Bytes that the decoder of one of so many streams may take."""
    return DECODERS_BYTES // max(streams, 1)


def packed_bytes(plain_bytes: int, grain: int) -> int:
    """Bytes of one part, before it is compressed."""
    return (plain_bytes * grain + 7) // 8


def pack(patch: Patch) -> bytes:
    """Head and table of a patch; the parts are to follow in this order. Their offsets are not written."""
    parts = [
        PART.pack(*key, stream.grain, number, part.codec, 0, part.coded_bytes, stream.plain_bytes)
        for key, stream in patch.streams.items()
        for number, part in enumerate(stream.parts)
    ]
    table = zlib.compress(b"".join(parts) + patch.operations, 9)
    digests = [bytes.fromhex(digest or "00" * 32) for digest in (patch.base, patch.result)]
    sizes = (len(parts), len(patch.operations) // OPERATION.size, len(table))
    return HEAD.pack(MARK, digests[0], patch.base_bytes, digests[1], patch.result_bytes, *sizes) + table


def parse(read: Callable[[int], bytes], patch_bytes: int) -> Patch:
    """Read head and table, and prove that nothing in them reaches outside of the base, the parts or the result.

    Args:
        read: Reads that many bytes (fewer at the end), from the start of the patch on.
        patch_bytes: Size of the patch.

    Raises:
        BadPatch: Anything does not fit.
    """
    head = read(HEAD.size)
    if len(head) < HEAD.size or not head.startswith(MARK):
        raise BadPatch("it does not begin as a patch does")
    _, base, base_bytes, result, result_bytes, parts, operations, table_bytes = HEAD.unpack(head)
    if parts > MOST_PARTS or operations > MOST_OPERATIONS or table_bytes > MOST_TABLE_BYTES:
        raise BadPatch("%d parts and %d operations are too many" % (parts, operations))
    table = _inflated(read(table_bytes), parts * PART.size + operations * OPERATION.size)
    cut = parts * PART.size
    found = _streams(table[:cut], HEAD.size + table_bytes, patch_bytes)
    name = "" if base == bytes(32) else base.hex()
    patch = Patch(name, base_bytes, result.hex(), result_bytes, found, table[cut:])
    _check_operations(patch)
    return patch


def _inflated(packed: bytes, size: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        table = decoder.decompress(packed, size + 1)
    except zlib.error as error:
        raise BadPatch("its table is damaged: %s" % error)
    if len(table) != size or not decoder.eof or decoder.unused_data:
        raise BadPatch("its table does not have %d bytes" % size)
    return table


def _streams(table: bytes, offset: int, patch_bytes: int) -> Dict[Key, Stream]:
    found: Dict[Key, Stream] = {}
    for kind, width, plane, grain, number, codec, _, coded, plain in PART.iter_unpack(table):
        key, part = (kind, width, plane), Part(codec, offset, coded)
        before = found.get(key, Stream(grain, plain, ()))
        if before[:2] != (grain, plain) or number != len(before.parts) or not _is_sound(part, grain, plain):
            raise BadPatch("its stream %r is not sound" % (key,))
        found[key] = Stream(grain, plain, before.parts + (part,))
        offset += coded
    if offset != patch_bytes:
        raise BadPatch("it has %d bytes, and its table tells of %d" % (patch_bytes, offset))
    if any(len(stream.parts) * stream.grain != 8 for stream in found.values()):
        raise BadPatch("a stream of it lacks parts")
    return found


def _is_sound(part: Part, grain: int, plain: int) -> bool:
    if part.codec == RAW and part.coded_bytes != packed_bytes(plain, grain):
        return False
    return grain in GRAINS and part.codec in ((RAW, ZLIB, BZ2, LZMA) if grain == 8 else (RAW, ZLIB))


def _check_operations(patch: Patch) -> None:
    """Each in its bounds, all together the result, and the streams used up."""
    total, used = 0, dict.fromkeys(patch.streams, 0)
    for kind, width, _, _, length, offset in OPERATION.iter_unpack(patch.operations):
        _check_operation(patch, (kind, width, length, offset))
        for plane in range(width if kind != COPY else 0):
            if (kind, width, plane) not in used:
                raise BadPatch("an operation has no stream")
            used[kind, width, plane] += length // width
        total += length
    if total != patch.result_bytes:
        raise BadPatch("its operations give %d bytes, and the result has %d" % (total, patch.result_bytes))
    if any(used[key] != stream.plain_bytes for key, stream in patch.streams.items()):
        raise BadPatch("its operations do not use up its streams")


def _check_operation(patch: Patch, operation: Tuple[int, int, int, int]) -> None:
    kind, width, length, offset = operation
    if kind not in (COPY, DATA, XOR, ADD) or width not in WIDTHS or length % width or not length:
        raise BadPatch("operation %d of width %d on %d bytes" % (kind, width, length))
    if kind != DATA and offset + length > patch.base_bytes:
        raise BadPatch("it reads past the end of the base")
