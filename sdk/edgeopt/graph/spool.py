"""Arrays of unknown length, appended to raw files, so that a stream of samples needs memory for one item only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO


class Spool:
    """Appends rows to one raw file a member; `members` tells how to open them again.

    Args:
        folder: Where the files go; exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: dict[str, BinaryIO] = {}
        self.members: dict[str, dict[str, Any]] = {}

    def append(self, name: str, rows: Any) -> bool:
        """Append rows [n, ...]; ``False`` where their shape or element type differs from those before."""
        import numpy as np

        shape, dtype = list(rows.shape[1:]), rows.dtype.str
        if name not in self.members:
            path = self._folder / f"member-{len(self.members)}.raw"
            self._streams[name] = open(path, "wb")  # noqa: SIM115 (stays open until `close`)
            self.members[name] = {"path": str(path), "dtype": dtype, "shape": shape, "count": 0}
        member = self.members[name]
        if (member["shape"], member["dtype"]) != (shape, dtype):
            return False
        self._streams[name].write(np.ascontiguousarray(rows).tobytes())
        member["count"] += len(rows)
        return True

    def close(self) -> dict[str, dict[str, Any]]:
        """Close the files and return `members`: path, dtype, shape of a row, count."""
        for stream in self._streams.values():
            stream.close()
        return self.members


def open_member(member: dict[str, Any], count: int | None = None) -> Any:
    """A member as a read-only array [count, *shape] that stays on disk."""
    import numpy as np

    shape = (member["count"] if count is None else count, *member["shape"])
    return np.memmap(member["path"], dtype=np.dtype(member["dtype"]), mode="r", shape=shape)
