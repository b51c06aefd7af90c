"""How stages of a pipeline hand tensors on: shared memory for the numbers, pipes for the turns, bounded and in order.

An edge is made before the processes are forked. It holds a fixed number of messages; who has one more waits.
"""

import json
import mmap
import os
import select
import struct
from typing import Any, Dict, List, Optional

SLOTS = 2
"""Messages that an edge holds: one that is read and one that is written."""

_LENGTH = struct.Struct("<I")
_ALIGNMENT = 64


class EdgeClosed(EOFError):
    """The process at the other end is gone."""


class Message:
    """What travels: its number, arrays by name, how long each stage was busy with it, or why there are no arrays."""

    def __init__(
        self, number: int, arrays: Dict[str, Any], busy_ns: Optional[List[int]] = None, error: str = "", slot: int = -1
    ) -> None:
        self.number = number
        self.arrays = arrays
        self.busy_ns = busy_ns or []
        self.error = error
        self.slot = slot


class Edge:
    """One way from a process to the next.

    Args:
        slot_bytes: Most that one message's arrays take.
    """

    def __init__(self, slot_bytes: int) -> None:
        self._slot_bytes = slot_bytes + _ALIGNMENT * 64
        self._memory = mmap.mmap(-1, self._slot_bytes * SLOTS)
        self._full_read, self._full_write = os.pipe()
        self._free_read, self._free_write = os.pipe()
        os.write(self._free_write, bytes(range(SLOTS)))

    def keep_writer(self) -> None:
        """Close what only a reader needs, so that the end of one side is seen by the other."""
        self._close("_full_read", "_free_write")

    def keep_reader(self) -> None:
        """Close what only a writer needs."""
        self._close("_full_write", "_free_read")

    def close(self) -> None:
        """Close all that is open."""
        self._close("_full_read", "_full_write", "_free_read", "_free_write")

    def _close(self, *names: str) -> None:
        for name in names:
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def has_room(self) -> bool:
        """Whether `put` would not wait."""
        return bool(select.select([self._free_read], [], [], 0)[0])

    def wait(self, other: "Edge") -> None:
        """Wait until there is room here or a message at the `other` edge."""
        select.select([self._free_read, other._full_read], [], [])

    def has_message(self) -> bool:
        """Whether `get` would not wait."""
        return bool(select.select([self._full_read], [], [], 0)[0])

    def put(self, message: Message) -> None:
        """Send a message; waits while the edge is full.

        Raises:
            EdgeClosed: Nobody reads any more.
            ValueError: The arrays are larger than a slot.
        """
        import numpy as np

        slot = os.read(self._free_read, 1)
        if not slot:
            raise EdgeClosed("nobody reads the edge any more")
        start, offset, forms = slot[0] * self._slot_bytes, 0, []
        for name, value in message.arrays.items():
            array = np.asarray(value)
            if offset + array.nbytes > self._slot_bytes:
                raise ValueError("%s makes a message larger than the %d bytes of a slot" % (name, self._slot_bytes))
            target = np.frombuffer(self._memory, array.dtype, array.size, start + offset)
            target.reshape(array.shape)[...] = array
            forms.append([name, array.dtype.str, list(array.shape), offset])
            offset += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        head = {"number": message.number, "slot": slot[0], "arrays": forms, "busy_ns": message.busy_ns}
        data = json.dumps(dict(head, error=message.error)).encode()
        try:
            _write_all(self._full_write, _LENGTH.pack(len(data)) + data)
        except BrokenPipeError:
            raise EdgeClosed("nobody reads the edge any more")

    def get(self) -> Message:
        """The next message, its arrays still in the edge's memory until `release`; waits while there is none.

        Raises:
            EdgeClosed: Nobody writes any more.
        """
        import numpy as np

        (length,) = _LENGTH.unpack(_read_all(self._full_read, _LENGTH.size))
        head = json.loads(_read_all(self._full_read, length).decode())
        start, arrays = head["slot"] * self._slot_bytes, {}
        for name, dtype, shape, offset in head["arrays"]:
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(self._memory, np.dtype(dtype), count, start + offset).reshape(shape)
        return Message(head["number"], arrays, head["busy_ns"], head["error"], head["slot"])

    def release(self, message: Message) -> None:
        """Give a message's memory back; its arrays must not be read afterwards."""
        try:
            os.write(self._free_write, bytes([message.slot]))
        except BrokenPipeError:
            pass  # the writer is gone; the next `get` tells


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_all(descriptor: int, length: int) -> bytes:
    parts, left = [], length
    while left:
        part = os.read(descriptor, left)
        if not part:
            raise EdgeClosed("the process at the other end of the edge is gone")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
