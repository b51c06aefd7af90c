"""Interpreters of other versions on this computer."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

VERSIONS = [f"3.{minor}" for minor in range(6, 14)]


@functools.lru_cache(maxsize=1)
def interpreters() -> dict[str, str]:
    """Interpreters by version: those on the path and pyenv's."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/*/bin"))
    found: dict[str, str] = {}
    for candidate in [path for folder in folders for path in sorted(folder.glob("python3.*"))]:
        if re.fullmatch(r"python3\.\d+", candidate.name) and candidate.name[6:] not in found:
            done = subprocess.run([candidate, "-c", "print(1)"], capture_output=True)
            if done.stdout == b"1\n":
                found[candidate.name[6:]] = str(candidate)
    return found


def interpreter(version: str) -> str:
    """The interpreter of a version; the test is skipped where there is none."""
    if version not in interpreters():
        pytest.skip(f"no Python {version} on this computer")
    return interpreters()[version]
