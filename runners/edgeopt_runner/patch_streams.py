"""Reads the streams of a patch in bounded memory: whatever they hold, no decoder gives more than it is asked for."""

import functools
import importlib
import importlib.util
import os
import zlib
from typing import Any, List

from edgeopt_runner.protocol.patch_format import BZ2, CODECS, LZMA, RAW, ZLIB, BadPatch, Part, Stream, packed_bytes

_CHUNK_BYTES = 16 << 10
_BLOCK_BYTES = 32 << 10
_EXTENSIONS = {"zlib": "zlib", "bz2": "_bz2", "lzma": "_lzma"}
_BZ2_BASE_BYTES, _BZ2_LEVEL_BYTES = 100_000, 400_000


def codecs() -> List[str]:
    """What this interpreter can decompress; some are built without bz2 or lzma."""
    return [name for name in CODECS if importlib.util.find_spec(_EXTENSIONS[name]) is not None]


class StreamReader:
    """One stream, read from front to back.

    Args:
        descriptor: The patch, open for reading.
        stream: Where its parts are.
        limit_bytes: What its decoder may take.

    Raises:
        BadPatch: The decoder would take more, or this interpreter lacks it.
    """

    def __init__(self, descriptor: int, stream: Stream, limit_bytes: int) -> None:
        self._grain = stream.grain
        self._parts = [_PartReader(descriptor, part, limit_bytes) for part in stream.parts]
        self._left = stream.plain_bytes
        self._held = b""

    def read(self, count: int) -> bytes:
        """The next `count` bytes. Raises BadPatch when the stream is damaged or ends before."""
        if self._grain == 8:
            return self._parts[0].read(count)
        blocks = [self._held[:count]]
        self._held = self._held[count:]
        count -= len(blocks[0])
        while count:
            block = self._unpacked()
            blocks.append(block[:count])
            self._held = block[count:]
            count -= len(blocks[-1])
        return b"".join(blocks)

    def _unpacked(self) -> bytes:
        """The next block, put together from all parts."""
        size = min(self._left, _BLOCK_BYTES)
        if not size:
            raise BadPatch("a stream of it ends too early")
        self._left -= size
        return _put_together([part.read(packed_bytes(size, self._grain)) for part in self._parts], self._grain)[:size]


def _put_together(parts: List[bytes], grain: int) -> bytes:
    """Bytes from their bits: `parts` hold `grain` bits of each, from the lowest up; may be some bytes too long."""
    each = 8 // grain
    block = bytearray(each * len(parts[0]))
    for place in range(each):
        mixed = 0
        for number, part in enumerate(parts):
            mixed |= int.from_bytes(part.translate(_moved(grain, place, number)), "little")
        block[place::each] = mixed.to_bytes(len(parts[0]), "little")
    return bytes(block)


@functools.lru_cache(maxsize=None)
def _moved(grain: int, place: int, number: int) -> bytes:
    """For each byte of part `number`: the bits that belong to the byte at `place`, where they are in that."""
    return bytes((byte >> grain * place & (1 << grain) - 1) << grain * number for byte in range(256))


class _PartReader:
    """One part, read from front to back."""

    def __init__(self, descriptor: int, part: Part, limit_bytes: int) -> None:
        self._descriptor = descriptor
        self._offset = part.offset
        self._left = part.coded_bytes
        self._decoder = _decoder(part.codec, os.pread(descriptor, 4, part.offset), limit_bytes)

    def read(self, count: int) -> bytes:
        blocks: List[bytes] = []
        data = b""
        while count:
            block = self._decoded(data, count)
            data = b"" if block else self._coded()
            blocks.append(block)
            count -= len(block)
        return b"".join(blocks)

    def _coded(self) -> bytes:
        """The next piece of what is in the file."""
        data = os.pread(self._descriptor, min(self._left, _CHUNK_BYTES), self._offset)
        if not data or self._decoder.eof:
            raise BadPatch("a stream of it ends too early")
        self._offset += len(data)
        self._left -= len(data)
        return data

    def _decoded(self, data: bytes, most: int) -> bytes:
        try:
            return bytes(self._decoder.decompress(data, most))
        except (ValueError, EOFError, OSError, RuntimeError) as error:
            raise BadPatch("a stream of it is damaged: %s" % error)


def _decoder(codec: int, start: bytes, limit_bytes: int) -> Any:
    if codec == RAW:
        return _Plain()
    if codec == ZLIB:
        return _Inflating()
    name = {BZ2: "bz2", LZMA: "lzma"}[codec]
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise BadPatch("this Python lacks %s" % name)
    if codec == LZMA:
        return _Unpacking(module, limit_bytes)
    level = start[3:4]
    if not level.isdigit() or _BZ2_BASE_BYTES + int(level) * _BZ2_LEVEL_BYTES > limit_bytes:
        raise BadPatch("its bz2 streams take more than %d bytes to read" % limit_bytes)
    return module.BZ2Decompressor()


class _Plain:
    """Bytes as they are."""

    eof = False

    def __init__(self) -> None:
        self._held = b""

    def decompress(self, data: bytes, most: int) -> bytes:
        data = self._held + data
        self._held = data[most:]
        return data[:most]


class _Inflating:
    """zlib, with the interface of the other decoders: it holds back what it was not asked for."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj()

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    def decompress(self, data: bytes, most: int) -> bytes:
        try:
            return self._decoder.decompress(self._decoder.unconsumed_tail + data, most)
        except zlib.error as error:
            raise ValueError(str(error))


class _Unpacking:
    """LZMA under a memory limit, which the decoder itself holds."""

    def __init__(self, module: Any, limit_bytes: int) -> None:
        self._error = module.LZMAError
        self._decoder = module.LZMADecompressor(format=module.FORMAT_ALONE, memlimit=limit_bytes)

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    def decompress(self, data: bytes, most: int) -> bytes:
        if self.eof:
            return b""
        try:
            return bytes(self._decoder.decompress(data, most))
        except self._error as error:
            raise ValueError(str(error))
