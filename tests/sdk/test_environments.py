"""Environments hold what their lock says, are made once, and say what to do where they cannot be made. No index is
asked: wheels are made on the spot."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeopt import environments
from edgeopt.child import run_child
from edgeopt.environments import Environment, interpreter
from edgeopt.errors import ToolError
from support.wheels import make_wheel

VERSIONS = "import json, importlib.metadata as m; print(json.dumps(sorted(d.name for d in m.distributions())))"
PROBE = """
def probe():
    import edgeopt, sys
    import anvil
    try:
        import numpy
    except ImportError:
        return [anvil.WEIGHT, sys.prefix, "no numpy"]
    return [anvil.WEIGHT, sys.prefix, "numpy"]
"""


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "anvil", {"anvil.py": b"WEIGHT = 12\n"})
    make_wheel(folder, "bellows", {"bellows.py": b""})
    monkeypatch.setenv("EDGEOPT_WHEELHOUSE", str(folder))
    monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(tmp_path / "kept"))
    return folder


def environment(tmp_path: Path, text: str, needed: tuple[str, ...] = ("anvil",), **fields: object) -> Environment:
    lock = tmp_path / "forge.txt"
    lock.write_text(text)
    return Environment(lock, needed, **fields)  # type: ignore[arg-type]


def test_an_environment_is_made_once_for_two_that_want_it_and_has_what_the_lock_says(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = environment(tmp_path, "# tools\nanvil==1.0\nbellows==1.0\n", first="anvil")
    left = wanted.folder.with_name(f"{wanted.folder.name}.killed.part")
    left.mkdir(parents=True)  # of a making that was killed
    heard: list[str] = []
    with ThreadPoolExecutor(2) as both:
        makings = [
            both.submit(interpreter, wanted, on_progress=lambda text, share: heard.append(text)) for _ in range(2)
        ]
        pythons = {making.result() for making in makings}
    assert pythons == {wanted.folder / "bin" / "python"}
    said = subprocess.run([pythons.pop(), "-I", "-c", VERSIONS], capture_output=True, text=True, check=True).stdout
    assert '"anvil"' in said
    assert '"bellows"' in said
    assert [path.name for path in wanted.folder.parent.iterdir() if not path.name.startswith(".")] == [
        wanted.folder.name
    ]
    assert heard.count("making an environment") == 1
    wheels.rename(tmp_path / "away")  # from here on nothing can be installed, and need not be
    assert interpreter(wanted).exists()

    (tmp_path / "probing.py").write_text(PROBE)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = run_child("probing:probe", {}, deadline_seconds=60, what="probing", python=interpreter(wanted))
    assert found == [12, str(wanted.folder), "no numpy"], (
        "the child must see our packages and its own, not ours besides"
    )


def test_another_lock_is_another_environment_and_a_comment_is_not(tmp_path: Path) -> None:
    first = environment(tmp_path, "anvil==1.0\n").folder
    assert environment(tmp_path, "# told\nanvil==1.0\n").folder == first
    assert environment(tmp_path, "anvil==1.1\n").folder != first


def test_this_interpreter_is_taken_where_it_has_what_is_needed(tmp_path: Path) -> None:
    from importlib.metadata import version

    here = environment(tmp_path, f"numpy=={version('numpy')}\nnot-here==1.0\n", needed=("numpy",))
    assert interpreter(here) == Path(sys.executable)
    assert not here.folder.exists()


def test_a_wheel_that_is_missing_is_named_and_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    wanted = environment(tmp_path, "anvil==2.0\n")
    with pytest.raises(ToolError, match=r"'forge' cannot be made.*anvil==2\.0") as caught:
        interpreter(wanted)
    assert "EDGEOPT_WHEELHOUSE" in caught.value.remedy
    assert [path.name for path in wanted.folder.parent.iterdir()] == [f".{wanted.folder.name}.lock"]


def test_no_room_and_no_folder_are_said_before_anything_is_made(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolError, match=r"needs \d+ MiB, but .* MiB left"):
        interpreter(environment(tmp_path, "anvil==1.0\n", size_bytes=1 << 60))
    monkeypatch.setenv("EDGEOPT_WHEELHOUSE", str(tmp_path / "nowhere"))
    with pytest.raises(ToolError, match="nowhere', which is no folder"):
        interpreter(environment(tmp_path, "anvil==1.0\n"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(tmp_path / "file" / "below"))
    with pytest.raises(ToolError, match="cannot be kept in") as caught:
        interpreter(environment(tmp_path, "anvil==1.0\n"))
    assert "EDGEOPT_ENVIRONMENTS" in caught.value.remedy


def test_a_python_without_venv_is_told_with_the_package_that_has_it(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python3"
    bare.write_text('#!/bin/sh\ncase "$*" in *venv*) echo "ensurepip is not available" >&2; exit 1;; esac\n')
    bare.chmod(0o755)
    monkeypatch.setattr(environments.sys, "executable", str(bare))
    (tmp_path / "made").mkdir()
    with pytest.raises(ToolError, match="ensurepip is not available") as caught:
        environments._make_venv(tmp_path / "made")
    assert "apt install python3-venv" in caught.value.remedy


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError('...: Name or service not known')'\n"
            "ERROR: Could not find a version that satisfies the requirement anvil==1.0 (from versions: none)\n"
            "ERROR: No matching distribution found for anvil==1.0",
            r"index cannot be reached \(No matching distribution found for anvil==1\.0\)",
        ),
        ("ERROR: No matching distribution found for anvil==1.0", "cannot be made: No matching distribution found"),
        ("", "it printed nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence(tmp_path: Path, printed: str, expected: str) -> None:
    with pytest.raises(ToolError, match=expected):
        raise environments._problem(environment(tmp_path, "anvil==1.0\n"), printed.splitlines())
