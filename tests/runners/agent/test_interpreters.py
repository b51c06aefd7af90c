"""The agent runs on the oldest and the newest Python that this computer has."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from support.nginx import running_nginx
from support.pull_tree import PullTree
from support.pulling import PullingBoard


@functools.cache
def interpreter(version: str) -> str:
    found = [shutil.which(f"python{version}"), *Path("~/.pyenv/versions").expanduser().glob(f"*/bin/python{version}")]
    for candidate in filter(None, found):
        if subprocess.run([candidate, "-c", "import ssl"], capture_output=True, check=False).returncode == 0:
            return str(candidate)
    pytest.skip(f"no Python {version} on this computer")


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.13"])
def test_a_board_polls_verifies_and_fetches_on(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    tree = PullTree(tmp_path / "tree")
    tree.release("digits", "1.0", 1, b"model" * 1000, b"golden")
    tree.offer("digits", "1.0")
    tree.publish()
    with running_nginx(tmp_path / "nginx", tree.folder) as nginx:
        board = PullingBoard(tmp_path / "board", tree, nginx.url(), report_url=nginx.url("reports"))
        code, said = board.poll(python=python)
        assert said[0]["outcome"] in ("skipped", "aborted"), said  # no runtime there, or a file that is no network
        assert said[-1]["polled"]
        assert list((nginx.reports / "board-1").iterdir())
        assert code in (0, 4)
    board.assert_sound("digits", "")
