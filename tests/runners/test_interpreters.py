"""The bundle runs on every Python from 3.6 to 3.13 that this computer has."""

import functools
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from support.runner import Runner, bundle_path, job

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
    if version not in interpreters():
        pytest.skip(f"no Python {version} on this computer")
    return interpreters()[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_hello_a_job_and_an_object_work_on(version: str, tmp_path: Path) -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with Runner(tmp_path / "root", python=interpreter(version)) as runner:
        assert runner.result_of("hello", protocols=[1])["python"].startswith(version + ".")
        assert runner.receive(digest, 5, b"hello")[-1] == {"ok": True}
        assert runner.finish(job())["status"] == "ok"
        assert runner.result_of("clean", force=False) == {"removed": True}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_module_of_the_bundle_compiles_on(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    with zipfile.ZipFile(bundle_path()) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run([python, "-m", "compileall", "-q", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
