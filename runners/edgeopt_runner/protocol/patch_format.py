"""The patch file: how a file is rebuilt from another that the board has, and what it does not have.

All numbers little-endian; sizes and offsets in bytes::

    head      HEAD: mark, SHA-256 and size of the base, SHA-256 and size of the result, numbers of streams and of
              operations, size of the table
    table     zlib, of one STREAM each and then one OPERATION each
    streams   one after the other, in the order of the table

The operations give the result from front to back. `COPY` takes bytes of the base; `DATA` takes them from the streams;
`XOR` and `ADD` combine bytes of the base with those of the streams. What comes from streams is numbers of `width`
bytes, taken apart into planes: all lowest bytes are in one stream, and so on up (a plane of the high bytes is nearly
constant, one of the low bytes nearly noise). So the streams of an operation follow from its kind and width, and each
operation goes on where the last one of that kind and width stopped. `ADD` adds numbers modulo 256**width, and its
numbers are signed ones folded (0, -1, 1, -2, ... are 0, 1, 2, 3, ...), so that small ones have empty high planes.

A patch without a base (its digest is zeros) is a file compressed.
"""

import struct
import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

MARK = b"edgeopt patch 1\n"
HEAD = struct.Struct("<16s32sQ32sQIII")
STREAM = struct.Struct("<BBBBIQQ")
OPERATION = struct.Struct("<BBHIQQ")

COPY, DATA, XOR, ADD = range(4)
WIDTHS = (1, 2, 4, 8)
RAW, ZLIB, BZ2, LZMA = range(4)
CODECS = {"zlib": ZLIB, "bz2": BZ2, "lzma": LZMA}
"""Codes of the algorithms by the names that the board gives them in ``hello``."""

MOST_STREAMS = 3 * sum(WIDTHS)
MOST_OPERATIONS = 32768
MOST_TABLE_BYTES = MOST_STREAMS * STREAM.size + MOST_OPERATIONS * OPERATION.size
DECODERS_BYTES = 4 << 20
"""What all decoders of a patch together may take on the board; each gets the same share."""

Key = Tuple[int, int, int]
"""Kind of the operations, their width, and the plane."""

Stream = NamedTuple("Stream", [("codec", int), ("offset", int), ("coded_bytes", int), ("plain_bytes", int)])
"""A stream: `offset` is its place in the patch, `plain_bytes` what it gives."""

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


def decoder_share(coded: int) -> int:
    """Bytes that one of `coded` decoders may take."""
    return DECODERS_BYTES // max(coded, 1)


def pack(patch: Patch, order: List[Key]) -> bytes:
    """Head and table of a patch; the streams, in `order`, are to follow. Their offsets are not written."""
    table = b"".join(
        STREAM.pack(*key, patch.streams[key].codec, 0, patch.streams[key].coded_bytes, patch.streams[key].plain_bytes)
        for key in order
    )
    packed = zlib.compress(table + patch.operations, 9)
    digests = [bytes.fromhex(digest or "00" * 32) for digest in (patch.base, patch.result)]
    count = len(patch.operations) // OPERATION.size
    sizes = (len(order), count, len(packed))
    return HEAD.pack(MARK, digests[0], patch.base_bytes, digests[1], patch.result_bytes, *sizes) + packed


def parse(read: Callable[[int], bytes], patch_bytes: int) -> Patch:
    """Read head and table, and prove that nothing in them reaches outside of the base, the streams or the result.

    Args:
        read: Reads that many bytes (fewer at the end), from the start of the patch on.
        patch_bytes: Size of the patch.

    Raises:
        BadPatch: Anything does not fit.
    """
    head = read(HEAD.size)
    if len(head) < HEAD.size or not head.startswith(MARK):
        raise BadPatch("it does not begin as a patch does")
    _, base, base_bytes, result, result_bytes, streams, operations, packed_bytes = HEAD.unpack(head)
    if streams > MOST_STREAMS or operations > MOST_OPERATIONS or packed_bytes > MOST_TABLE_BYTES:
        raise BadPatch("%d streams and %d operations are too many" % (streams, operations))
    table = _inflated(read(packed_bytes), streams * STREAM.size + operations * OPERATION.size)
    cut = streams * STREAM.size
    found = _streams(table[:cut], HEAD.size + packed_bytes, patch_bytes)
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
    for kind, width, plane, codec, _, coded, plain in STREAM.iter_unpack(table):
        key = (kind, width, plane)
        if key in found or codec not in (RAW, ZLIB, BZ2, LZMA) or (codec == RAW and coded != plain):
            raise BadPatch("a stream of it is not sound: %r" % (key,))
        found[key] = Stream(codec, offset, coded, plain)
        offset += coded
    if offset != patch_bytes:
        raise BadPatch("it has %d bytes, and its table tells of %d" % (patch_bytes, offset))
    return found


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


def _check_operation(patch: Patch, operation: Any) -> None:
    kind, width, length, offset = operation
    if kind not in (COPY, DATA, XOR, ADD) or width not in WIDTHS or length % width or not length:
        raise BadPatch("operation %d of width %d on %d bytes" % (kind, width, length))
    if kind != DATA and offset + length > patch.base_bytes:
        raise BadPatch("it reads past the end of the base")
