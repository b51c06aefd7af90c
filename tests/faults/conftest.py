"""Folders in memory for tests that work through hundreds of boards: none of them asks how a disk syncs."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_LEAST_BYTES = 512 << 20


@contextlib.contextmanager
def in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder in memory, taken away at the end; the other one where there is no room for it."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _LEAST_BYTES:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="edgeopt-faults-", dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory for all tests of a module."""
    with in_memory(tmp_path_factory.mktemp("workshop")) as folder:
        yield folder
