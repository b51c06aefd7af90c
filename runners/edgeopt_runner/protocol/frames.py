r"""Frames: JSON documents that survive login banners, library noise and cut links.

A frame is ``\x1e EDGEOPT1 <length> <crc32>\n<json>\n``. Bytes outside frames are kept as noise and never parsed.
"""

import json
import re
import zlib
from typing import Any, BinaryIO, Callable, List, Optional

from edgeopt_runner.protocol import FRAME_LIMIT_BYTES

MARK = b"\x1e EDGEOPT1 "
_HEADER = re.compile(rb"\x1e EDGEOPT1 (\d{1,10}) ([0-9a-f]{8})\n")
_HEADER_MAX = 40
_NOISE_MAX = 64 << 10


class FrameError(ValueError):
    """A frame is too long, fails its checksum or is not a JSON object; or the stream ended inside it."""


def encode(document: Any) -> bytes:
    """The frame of a JSON document.

    Raises:
        FrameError: It is longer than any reader takes.
        ValueError: It has a NaN or an infinity, which JSON does not have.
    """
    body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("utf-8")
    if len(body) > FRAME_LIMIT_BYTES:
        raise FrameError("%d bytes are more than the %d that a frame holds" % (len(body), FRAME_LIMIT_BYTES))
    return MARK + b"%d %08x\n" % (len(body), zlib.crc32(body) & 0xFFFFFFFF) + body + b"\n"


def _refuse_constant(name: str) -> Any:
    raise FrameError("number %s in a frame" % name)


class FrameReader:
    """Takes frames out of a byte stream.

    Args:
        read: Returns between 1 and n bytes, or ``b""`` at the end of the stream.
        limit_bytes: Longest body that is accepted.
    """

    def __init__(self, read: Callable[[int], bytes], limit_bytes: int = FRAME_LIMIT_BYTES) -> None:
        self._read = read
        self._limit = limit_bytes
        self._buffer = bytearray()
        self.noise = bytearray()

    def _more(self) -> bool:
        chunk = self._read(65536)
        self._buffer += chunk
        return bool(chunk)

    def _drop(self, count: int) -> None:
        if len(self.noise) < _NOISE_MAX:
            self.noise += self._buffer[:count]
        del self._buffer[:count]

    def _header(self) -> Optional[Any]:
        """Skip to the next header and return its match; ``None`` at the end of the stream."""
        while True:
            start = self._buffer.find(MARK)
            if start < 0:
                self._drop(max(0, len(self._buffer) - len(MARK) + 1))
                if not self._more():
                    self._drop(len(self._buffer))
                    return None
                continue
            self._drop(start)
            match = _HEADER.match(self._buffer)
            if match:
                return match
            if len(self._buffer) >= _HEADER_MAX or b"\n" in self._buffer:
                self._drop(len(MARK))
            elif not self._more():
                self._drop(len(self._buffer))
                return None

    def next(self) -> Optional[Any]:
        """The next document, or ``None`` when the stream ended between frames.

        After an error the reader goes on behind what was wrong, so that one bad frame does not end a conversation.

        Raises:
            FrameError: Oversized, corrupt or cut frame, or a body that is not a JSON object.
        """
        match = self._header()
        if match is None:
            return None
        length, crc, start = int(match.group(1)), int(match.group(2), 16), match.end()
        if length > self._limit:
            self._drop(start)
            raise FrameError("frame of %d bytes, more than the %d allowed" % (length, self._limit))
        while len(self._buffer) < start + length + 1:
            if not self._more():
                self._drop(len(self._buffer))
                raise FrameError("stream ended inside a frame")
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length + 1]
        if zlib.crc32(body) & 0xFFFFFFFF != crc:
            raise FrameError("checksum of a frame does not match")
        try:
            document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise FrameError("body of a frame is not JSON: %s" % error)
        if not isinstance(document, dict):
            raise FrameError("body of a frame is not a JSON object")
        return document

    def rest(self, count: int) -> bytes:
        """Up to `count` raw bytes that follow the last frame, those already buffered first."""
        if not self._buffer:
            self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def write(stream: BinaryIO, document: Any) -> None:
    """Write one frame and flush."""
    stream.write(encode(document))
    stream.flush()


def reader_of(stream: BinaryIO) -> FrameReader:
    """A frame reader over a file object opened in binary mode."""
    read1 = getattr(stream, "read1", None)
    return FrameReader(read1 if read1 is not None else stream.read)


__all__: List[str] = ["FrameError", "FrameReader", "MARK", "encode", "reader_of", "write"]
