"""A disk that fails at a chosen call: `open` for writing, write, flush, fsync, rename, link, mkdir, unlink, truncate.

In Python rather than by LD_PRELOAD: calls can be counted, so that a test goes through every one of them.
"""

from __future__ import annotations

import builtins
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CALLS = (
    *("replace", "rename", "symlink", "link", "mkdir", "unlink", "rmdir", "fsync"),
    *("pwrite", "ftruncate", "write"),
)


class Disk:
    """Counts calls that change the disk.

    Args:
        fails: Called with the number of each call (from 1) and its path; raises what it likes.
    """

    def __init__(self, fails: Callable[[int, str], None]) -> None:
        self.calls = 0
        self._fails = fails

    def call(self, where: str) -> None:
        """Count a call."""
        self.calls += 1
        self._fails(self.calls, where)


class _Stream:
    """An open file whose writes count."""

    def __init__(self, disk: Disk, stream: Any, path: str) -> None:
        self._disk, self._stream, self._path = disk, stream, path

    def write(self, data: Any) -> int:
        self._disk.call("write " + self._path)
        return int(self._stream.write(data))

    def truncate(self, *size: int) -> int:
        self._disk.call("truncate " + self._path)
        return int(self._stream.truncate(*size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Any:
        return iter(self._stream)


@contextlib.contextmanager
def failing(root: Path, fails: Callable[[int, str], None]) -> Iterator[Disk]:
    """Let calls below `root` count, and fail where `fails` raises."""
    disk, real_open = Disk(fails), builtins.open
    inside = str(root)

    def opened(path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        ours = isinstance(path, str) and path.startswith(inside) and any(letter in mode for letter in "wa+x")
        if not ours:
            return real_open(path, mode, *arguments, **named)
        disk.call("open " + path)
        return _Stream(disk, real_open(path, mode, *arguments, **named), path)

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            disk.call(f"{name} {arguments[0]}")
            return real(*arguments, **named)

        return call

    real = {name: getattr(os, name) for name in CALLS}
    try:
        builtins.open = opened  # type: ignore[assignment]
        for name, function in real.items():
            setattr(os, name, counted(name, function))
        yield disk
    finally:
        builtins.open = real_open
        for name, function in real.items():
            setattr(os, name, function)
