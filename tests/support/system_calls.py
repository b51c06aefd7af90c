"""Records what a command does to the files below a folder: every call of the kernel that changes them, by strace.

From outside rather than by a hook in Python: what a library does past Python is in the record too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

_BY_DESCRIPTOR = ("close", "read", "lseek", "write", "pwrite64", "ftruncate", "fsync", "fdatasync")
_BY_PATH = ("open", "openat", "truncate", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat")
_ENDS = ("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat")
_UNKNOWN = ("writev", "pwritev", "copy_file_range", "sendfile", "splice", "fallocate", "creat")
"""Calls that change files too, for which the record has no words: a command that does them cannot be recorded."""

_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_HEXADECIMAL = re.compile(r"(?:\\x[0-9a-f]{2})+")
_DESCRIPTOR = re.compile(r"(?:AT_FDCWD|(\d+))<([^>]*)>\Z")


class Call(NamedTuple):
    """One change.

    Attributes:
        deed: ``open``, ``write``, ``truncate``, ``sync``, ``rename``, ``link``, ``symlink``, ``remove`` or ``mkdir``.
        path: What is changed, relative to the folder; empty where it is the folder.
        other: The new name of ``rename`` and ``link``; where a ``symlink`` leads to; flags of ``open``.
        data: What a ``write`` writes.
        number: Where it does; of ``truncate`` the size.
    """

    deed: str
    path: str
    other: str = ""
    data: bytes = b""
    number: int = 0


def record(folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> list[Call]:
    """Run a command to its end; what its first process changed below the folder.

    Skips the test, with the reason, where there is no strace or it may not look.
    """
    if shutil.which("strace") is None:
        pytest.skip("no strace on this computer; .ci/run names the packages")
    trace = folder.parent / f"{folder.name}.trace"
    names = ",".join(f"?{name}" for name in (*_BY_DESCRIPTOR, *_BY_PATH, *_ENDS, *_UNKNOWN))
    words = ["strace", "-o", str(trace), "-s", str(4 << 20), "-xx", "-y", "-e", f"trace={names}", *command]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip(f"this computer lets nobody look: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    return list(_calls(trace.read_text().splitlines(), f"{folder}/"))


def _calls(lines: Iterable[str], folder: str) -> Iterator[Call]:
    """The calls that went well and are about what lies below the folder, their paths cut to it."""
    offsets: dict[str, int] = {}
    for line in lines:
        match = _LINE.match(line)
        if not match or int(match.group(3)) < 0:
            continue
        words = [_plain(word) for word in match.group(2).split(", ")]
        call = _call(match.group(1), words, int(match.group(3)), offsets)
        if call is not None and f"{call.path}/".startswith(folder):
            yield call._replace(path=call.path[len(folder) :], other=call.other.removeprefix(folder))


def _plain(word: str) -> str:
    """A word of the record as it was, bytes as Latin-1; its quotation marks stay."""
    return _HEXADECIMAL.sub(lambda match: bytes.fromhex(match.group().replace("\\x", "")).decode("latin-1"), word)


def _call(name: str, words: list[str], returned: int, offsets: dict[str, int]) -> Call | None:
    """A call in words of the record; ``None`` where it changes nothing."""
    if name in _BY_DESCRIPTOR or name in _UNKNOWN:
        return _by_descriptor(name, words, returned, offsets)
    paths = _paths(words[1:] if name.startswith("symlink") else words)
    if name.startswith("open"):
        offsets[str(returned).partition("<")[0]] = 0
        return Call("open", paths[0], next(word for word in words if word.startswith("O_")))
    if name == "truncate":
        return Call("truncate", paths[0], number=int(words[1]))
    if name.startswith("symlink"):
        return Call("symlink", paths[0], words[0].strip('"'))
    if name.startswith(("rename", "link")):
        return Call(name.partition("at")[0].rstrip("2"), paths[0], paths[1])
    return Call("mkdir" if name.startswith("mkdir") else "remove", paths[0])


def _by_descriptor(name: str, words: list[str], returned: int, offsets: dict[str, int]) -> Call | None:
    match = _DESCRIPTOR.match(words[0])
    if match is None:
        return None
    number, path = str(match.group(1)), match.group(2)
    assert name not in _UNKNOWN, f"{name} of {path} cannot be recorded"
    offset = offsets.get(number, 0)
    if name in ("read", "write", "lseek"):
        offsets[number] = returned if name == "lseek" else offset + returned
    if name in ("write", "pwrite64"):
        data = words[1].strip('"').encode("latin-1")[:returned]
        return Call("write", path, data=data, number=int(words[3]) if name == "pwrite64" else offset)
    if name == "ftruncate":
        return Call("truncate", path, number=int(words[1]))
    return Call("sync", path) if name in ("fsync", "fdatasync") else None


def _paths(words: Iterable[str]) -> list[str]:
    """The paths among the arguments; a descriptor before one is the folder that it starts from."""
    found: list[str] = []
    start = "/"
    for word in words:
        match = _DESCRIPTOR.match(word)
        if match:
            start = match.group(2)
        elif word.startswith('"'):
            found.append(os.path.join(start, word[1:-1]))
    return found
