"""The write-ahead journal of an application's releases: one JSON line per transition, synced before the deed.

Every line bears its own checksum. What follows the last line that fits is the torn end of an interrupted write, which
the next append writes over. A damaged line before it is passed over: to believe the journal ended there would undo
what was committed long ago.

The file is made as large as it may become, zeros behind the lines: on a disk that is full to the last byte the way back
can still be written down.
"""

import errno
import json
import os
import zlib
from typing import Any, Dict, Optional, Tuple

from edgeopt_runner import storage

RESERVED_BYTES = 64 << 10
_ROTATE_BYTES = 16 << 10
_FULL = (errno.ENOSPC, errno.EDQUOT)


def _encode(record: Dict[str, Any]) -> bytes:
    body = json.dumps(record, allow_nan=False, sort_keys=True)
    crc = zlib.crc32(body.encode("utf-8")) & 0xFFFFFFFF
    return json.dumps({"crc": crc, "record": record}, sort_keys=True).encode("utf-8") + b"\n"


def _decode(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(line.decode("utf-8"))["record"]
    except (ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) and _encode(record) == line else None


class Journal:
    """The journal in the file `path`; the file appears with the first append."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _read(self) -> Tuple[Dict[str, Any], int, int]:
        """The last valid record, where it ends and where all that was ever written ends; looked for from behind."""
        try:
            with open(self.path, "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            return {}, 0, 0
        end = written = data.rfind(b"\n") + 1
        if data[end:] != bytes(len(data) - end):
            written = len(data.rstrip(b"\0"))
        while end:
            start = data.rfind(b"\n", 0, end - 1) + 1
            record = _decode(data[start:end])
            if record is not None:
                return record, end, written
            end = start
        return {}, 0, written

    def last(self) -> Dict[str, Any]:
        """The last record that was written whole; empty where there is none."""
        return self._read()[0]

    def append(self, record: Dict[str, Any]) -> None:
        """Write one record, durable when this returns. A long journal starts afresh with the last one and this."""
        last, length, written = self._read()
        line = _encode(record)
        if length > _ROTATE_BYTES or not os.path.exists(self.path):
            try:
                lines = _encode(last) + line if last else line
                storage.write_atomically(self.path, lines.ljust(RESERVED_BYTES, b"\0"))
                return
            except OSError as error:
                if error.errno not in _FULL or not length or length + len(line) > RESERVED_BYTES:
                    raise
        with open(self.path, "r+b") as stream:
            stream.seek(length)
            stream.write(line.ljust(written - length, b"\0"))
            stream.flush()
            os.fsync(stream.fileno())
