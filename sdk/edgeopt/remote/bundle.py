"""Builds the runner's bundle: one zipapp, the same bytes for the same code on every computer.

Docstrings and comments stay here. Members are not deflated: the `loader` compresses the bundle in one piece, which
sends a third less. What a measurement is kept by is the digest of the code itself.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import io
import json
import os
import threading
import tokenize
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt.documents import write_atomically

BUNDLE_NAME = "edgeopt_runner.pyz"
_PACKAGE = "edgeopt_runner"
_SHEBANG = b"#!/usr/bin/env python3\n"
_ONE_BUILDER = threading.Lock()
"""Threads that connect at once would write through the same partial file."""

Files = tuple[tuple[str, str, int, int], ...]
"""Names in the bundle, paths, times and sizes of the package's files: while these stay, so does what they hold."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_MAIN = """\
import os
import sys
import zlib

bundle = sys.path[0]
written = os.stat(bundle).st_mtime_ns
compiled = "%s.%x.%s.pyz" % (os.path.splitext(bundle)[0], written, sys.implementation.cache_tag)
if os.path.isfile(compiled):
    with open(compiled, "rb") as stream:
        checksum, rest = stream.read(4), stream.read()
    if zlib.crc32(rest) == int.from_bytes(checksum, "little"):
        sys.path.insert(0, compiled)
    else:
        os.unlink(compiled)

from edgeopt_runner.__main__ import main

sys.exit(main())
"""
"""See the runner's module `compiled`; a compiled form that was damaged is taken away."""


@dataclass(frozen=True)
class Bundle:
    """The runner in one file.

    Attributes:
        path: The file.
        digest: Its SHA-256.
        code_digest: SHA-256 of the code in it.
    """

    path: Path = field(compare=False)
    digest: str
    code_digest: str


def build_bundle(destination: Path) -> Bundle:
    """Write the bundle to the file `destination`; one that was made of the same source and is whole is left as it is.

    Raises:
        OSError: The source cannot be read or the file not be written.
    """
    files = _files(_source_folder())
    made_of = _made_of(files)
    with _ONE_BUILDER:
        return _known(destination, made_of) or _written(destination, files, made_of)


def _written(destination: Path, files: Files, made_of: str) -> Bundle:
    data, digests = _made(files)
    write_atomically(destination, data)
    write_atomically(_stamp(destination), json.dumps({"made_of": made_of, **digests}).encode())
    return Bundle(destination, **digests)


def _known(destination: Path, made_of: str) -> Bundle | None:
    """What an earlier call wrote, if it was made of the same source and its bytes are still the same."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        stamp = json.loads(_stamp(destination).read_text())
        if stamp["made_of"] == made_of and _digest(destination.read_bytes()) == stamp["digest"]:
            return Bundle(destination, stamp["digest"], stamp["code_digest"])
    return None


def _stamp(destination: Path) -> Path:
    return destination.with_suffix(".json")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _source_folder() -> Path:
    """Where the runner's package lies; found without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {_PACKAGE} is not installed beside edgeopt")
    return Path(spec.origin).parent


def _files(folder: Path) -> Files:
    found = []
    for here, _, names in os.walk(folder):
        for path in (os.path.join(here, name) for name in names if name.endswith(".py")):
            inside, stat = Path(os.path.relpath(path, folder)).as_posix(), os.stat(path)
            found.append((f"{_PACKAGE}/{inside}", path, stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(found))


@functools.lru_cache(maxsize=2)
def _sources(files: Files) -> Mapping[str, str]:
    """Text of the package's Python files by their names in the bundle."""
    return {"__main__.py": _MAIN, **{name: Path(path).read_text(encoding="utf-8") for name, path, *_ in files}}


@functools.lru_cache(maxsize=2)
def _made_of(files: Files) -> str:
    return _digest(json.dumps(_sources(files), sort_keys=True).encode())


@functools.lru_cache(maxsize=2)
def _made(files: Files) -> tuple[bytes, dict[str, str]]:
    """The zipapp and its digests; a process that writes it to many places makes it once."""
    members = {name: bare(text) for name, text in _sources(files).items()}
    data = _packed(members)
    code_digest = _digest(json.dumps(members, sort_keys=True).encode())
    return data, {"digest": _digest(data), "code_digest": code_digest}


def bare(text: str) -> str:
    """Python without docstrings and comments; every statement stays on its line, so that tracebacks are right."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            first = node.body[0]
            lines[first.lineno - 1] = " " * first.col_offset + "0\n" if len(node.body) == 1 else "\n"
            lines[first.lineno : first.end_lineno] = ["\n"] * ((first.end_lineno or first.lineno) - first.lineno)
    return "".join(lines)


def _packed(members: Mapping[str, str]) -> bytes:
    """The zipapp."""
    buffer = io.BytesIO(_SHEBANG)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr, info.compress_type = 3, _MODE, zipfile.ZIP_STORED
            archive.writestr(info, members[name])
    return buffer.getvalue()
