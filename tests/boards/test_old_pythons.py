"""Boards whose Python is old: a Jetson Nano's 3.6 and a JetPack 5's 3.8, by the old interpreters of this computer.

The identity is a board's; processor and libc are this computer's, for nobody has such interpreters of ARM.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeopt.remote import hostkeys
from support.board_commands import answer, provision
from support.board_models import changed
from support.board_shell import running_look
from support.sshd import Sshd
from support.workflow import Computer

pytestmark = [pytest.mark.boards, pytest.mark.timeout(1200)]


def interpreter_folder(version: str) -> Path:
    """Where pyenv keeps the interpreter; skips the test where it has none."""
    versions = Path(os.environ.get("PYENV_ROOT", "~root/.pyenv")).expanduser() / "versions"
    found = sorted(versions.glob(f"{version}.*/bin/python3"))
    if not found:
        pytest.skip(f"no Python {version} in {versions}")
    return found[-1].parent


@contextmanager
def old_board(edgeopt: Computer, folder: Path, board: str, version: str) -> Iterator[tuple[Sshd, dict[str, Any]]]:
    """A board of that Python, added by its name, and what was found there; cleaned at the end, with nothing left."""
    with running_look(folder / board, board, path=f"{interpreter_folder(version)}:/usr/bin:/bin") as server:
        words = ["device", "add", board, f"{server.user}@{server.host}:{server.port}", "--root", "/home/.edgeopt"]
        fingerprint = hostkeys.scan(server.device())
        facts = answer(edgeopt, *words, "--key", str(server.client_key), "--fingerprint", fingerprint)["facts"]
        yield server, facts
        cleaned = edgeopt.command("device", "clean", board, "--yes", "--force")
        assert cleaned.returncode == 0, cleaned.stderr
        assert list(server.home.iterdir()) == []


def test_python_3_6_gets_onnxruntime_1_10_and_runs_what_was_lowered_for_it(
    edgeopt: Computer, digits_words: list[str], tmp_path: Path
) -> None:
    with old_board(edgeopt, tmp_path, "jetson-nano", "3.6") as (_, facts):
        assert facts["model"] == "NVIDIA Jetson Nano Developer Kit"
        assert provision(edgeopt, "jetson-nano", "--runtime", "onnxruntime") == {"onnxruntime": "1.10.0"}
        words = changed(digits_words, recipes="optimised,int8-minmax")
        record = answer(edgeopt, *words, "--target", "jetson-nano", "--max-drop", "5%")
        assert record["deployment"]["release"] == 1
        assert not [one for one in record["rejections"] if one["stage"] == "rule"]
        (original,) = [one for one in record["variants"] if one["name"] == "original"]
        assert "opset 17 became 15" in original["notes"][0]
        ran_all(edgeopt, record)


def test_python_3_8_gets_onnxruntime_1_19_and_runs_the_network_as_it_is(
    edgeopt: Computer, digits_words: list[str], tmp_path: Path
) -> None:
    with old_board(edgeopt, tmp_path, "jetson-orin-nano", "3.8") as (_, facts):
        assert facts["python"].startswith("3.8.")
        assert provision(edgeopt, "jetson-orin-nano", "--runtime", "onnxruntime") == {"onnxruntime": "1.19.2"}
        words = changed(digits_words, recipes="optimised,int8-minmax")
        record = answer(edgeopt, *words, "--target", "jetson-orin-nano", "--max-drop", "5%")
        assert record["deployment"]["release"] == 1
        ran_all(edgeopt, record)


def ran_all(edgeopt: Computer, done: dict[str, Any]) -> None:
    """Every variant loaded there and gave the right outputs, whichever won."""
    with edgeopt.workspace() as workspace:
        selection = workspace.ledger.run(done["run_id"]).selection
    assert selection is not None
    found = [one.candidate for one in selection.assessments]
    assert {one.variant.name for one in found} == {"original", "optimised", "int8-minmax"}
    assert not [launch.detail for one in found for launch in one.measurements if not launch.ok]
