from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.remote import loader
from edgeopt.remote.client import connect

PYENV = Path("~/.pyenv/versions").expanduser()
VERSIONS = ["3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]


def interpreter(version: str) -> str:
    found = sorted(PYENV.glob(f"{version}.*/bin/python")) if PYENV.is_dir() else []
    if not found:
        pytest.skip(f"no Python {version} here")
    return str(found[-1])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runner_is_placed_and_started_by_every_interpreter(computer: Path, tmp_path: Path, version: str) -> None:
    device = Device("local", "local", root=str(tmp_path / "root"), python=interpreter(version))
    with connect(device) as connection:
        assert connection.placed.version.startswith(version)
        assert connection.have([]) == frozenset()


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "csh", "tcsh", "busybox"])
def test_the_command_is_one_word_for_every_login_shell(computer: Path, tmp_path: Path, shell: str) -> None:
    path = next((Path(folder, shell) for folder in ("/bin", "/usr/bin") if Path(folder, shell).exists()), None)
    if path is None:
        pytest.skip(f"no {shell} here")

    class Bundle:
        digest = "0" * 64
        path = Path(__file__)

    device = Device("x", "ssh", python="/no such/python", root="~/a $(touch x) 'b'")
    command = loader._command(device, Bundle())  # type: ignore[arg-type]
    assert "\n" not in command
    arguments = [str(path), *(["sh"] if shell == "busybox" else []), "-c", command]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.stdout.startswith("@@edgeopt nothing on Linux")
    assert done.returncode == 127
    assert not (tmp_path / "x").exists()


def test_a_folder_with_odd_characters_is_taken_as_it_is(computer: Path, tmp_path: Path) -> None:
    root = tmp_path / "a 'quoted' $HOME \"root\""
    with connect(Device("local", "local", root=str(root))) as connection:
        assert connection.have([]) == frozenset()
    assert (root / "runner" / "current").is_symlink()


def test_a_runner_that_is_placed_twice_at_once_is_whole(computer: Path, tmp_path: Path) -> None:
    import threading

    device = Device("local", "local", root=str(tmp_path / "root"))
    folders: list[Path] = []

    def place() -> None:
        with connect(device) as connection:
            folders.append(Path(connection.placed.bundle).parent)

    threads = [threading.Thread(target=place) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 3
    assert os.listdir(folders[0]) == ["edgeopt_runner.pyz"]
