from __future__ import annotations

import lzma
import os
import subprocess
from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.remote import loader
from edgeopt.remote.bundle import build_bundle
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
        path = tmp_path / "bundle.pyz"

    Bundle.path.write_bytes(b"bundle")
    device = Device("x", "ssh", python="/no such/python", root="~/a $(touch x) 'b'")
    command = loader._command(device, Bundle())  # type: ignore[arg-type]
    assert "\n" not in command
    arguments = [str(path), *(["sh"] if shell == "busybox" else []), "-c", command]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.stdout.startswith("@@edgeopt nothing on Linux")
    assert done.returncode == 127
    assert not (tmp_path / "x").exists()


def test_the_bundle_is_packed_once_and_what_was_kept_damaged_is_packed_again(tmp_path: Path) -> None:
    bundle = build_bundle(tmp_path / "runner.pyz")
    loader._packed.cache_clear()
    first = loader.packed(bundle)
    kept = tmp_path / "runner.lzma"
    assert lzma.decompress(kept.read_bytes()) == bundle.path.read_bytes()
    written_at = kept.stat().st_mtime_ns
    for damage in (b"", first["lzma"][:-9], lzma.compress(b"another bundle")):
        loader._packed.cache_clear()
        assert loader.packed(bundle) == first
        assert kept.stat().st_mtime_ns == written_at
        kept.write_bytes(damage)
        loader._packed.cache_clear()
        assert loader.packed(bundle) == first
        written_at = kept.stat().st_mtime_ns


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
