"""Builds the runner's bundle: one zipapp, the same bytes for the same source on every computer.

Stored, not deflated: zlib's output differs between versions, and a slow board imports faster from stored members.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgeopt.documents import write_atomically

BUNDLE_NAME = "edgeopt_runner.pyz"
_PACKAGE = "edgeopt_runner"
_SHEBANG = b"#!/usr/bin/env python3\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_MAIN = b"import sys\n\nfrom edgeopt_runner.__main__ import main\n\nsys.exit(main())\n"


@dataclass(frozen=True)
class Bundle:
    """The runner in one file.

    Attributes:
        path: The file.
        digest: Its SHA-256.
    """

    path: Path
    digest: str


def build_bundle(destination: Path) -> Bundle:
    """Write the bundle to the file `destination`; one with the right bytes is left as it is.

    Raises:
        OSError: The source cannot be read or the file not be written.
    """
    data = _bundle_bytes(_source_folder())
    if not destination.is_file() or destination.read_bytes() != data:
        write_atomically(destination, data)
    return Bundle(destination, hashlib.sha256(data).hexdigest())


def _source_folder() -> Path:
    """Where the runner's package lies; found without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {_PACKAGE} is not installed beside edgeopt")
    return Path(spec.origin).parent


def _bundle_bytes(source: Path) -> bytes:
    """The zipapp of the package's Python files, in sorted order."""
    members = {f"{_PACKAGE}/{path.relative_to(source).as_posix()}": path.read_bytes() for path in source.rglob("*.py")}
    members["__main__.py"] = _MAIN
    buffer = io.BytesIO(_SHEBANG)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, _MODE
            archive.writestr(info, members[name])
    return buffer.getvalue()
