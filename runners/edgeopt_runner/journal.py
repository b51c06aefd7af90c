"""The write-ahead journal of an application's releases: one JSON line per transition, synced before the deed.

Every line bears its own checksum. What follows the last line that fits is the torn end of an interrupted write, and
is cut off by the next append. A damaged line before it is passed over: to believe the journal ended there would undo
what was committed long ago.
"""

import json
import os
import zlib
from typing import Any, Dict, Optional, Tuple

from edgeopt_runner import storage

_ROTATE_BYTES = 16 << 10


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

    def _read(self) -> Tuple[Dict[str, Any], int]:
        """The last valid record and the length in bytes of the file up to its end; looked for from the end on."""
        try:
            with open(self.path, "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            return {}, 0
        end = len(data)
        while end:
            start = data.rfind(b"\n", 0, end - 1) + 1
            record = _decode(data[start:end])
            if record is not None:
                return record, end
            end = start
        return {}, 0

    def last(self) -> Dict[str, Any]:
        """The last record that was written whole; empty where there is none."""
        return self._read()[0]

    def append(self, record: Dict[str, Any]) -> None:
        """Write one record, durable when this returns. A long journal starts afresh with the last one and this."""
        last, length = self._read()
        if length > _ROTATE_BYTES:
            storage.write_atomically(self.path, _encode(last) + _encode(record))
            return
        fresh = not os.path.exists(self.path)
        with open(self.path, "r+b" if not fresh else "wb") as stream:
            stream.truncate(length)
            stream.seek(length)
            stream.write(_encode(record))
            stream.flush()
            os.fsync(stream.fileno())
        if fresh:
            storage.sync(os.path.dirname(self.path))
