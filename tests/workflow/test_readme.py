"""The README's commands, run as they stand, in order, in a folder with a network and samples."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.networks import small_cnn_onnx
from support.workflow import COMMAND

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_cnn_onnx(tmp_path / "model.onnx")
    random = np.random.default_rng(0)
    images = random.standard_normal((400, 1, 8, 8)).astype(np.float32)
    samples = {"image": images, "labels": random.integers(0, 10, 400)}
    np.savez(tmp_path / "samples.npz", **samples)
    return tmp_path


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    here = {"HOME": str(folder), "PYTHONPATH": str(ROOT / "tests")}
    environment = {**os.environ, **here, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


def measured_shortly(words: list[str]) -> list[str]:
    """The same command, with plans too short for good numbers where it measures many candidates."""
    return [sys.executable, "-c", COMMAND, *words[1:]] if words[:2] == ["edgeopt", "deploy"] else words


def test_every_command_of_the_tour_does_what_it_says(folder: Path) -> None:
    tour = commands()
    assert len(tour) > 8
    for command in tour:
        done = run(measured_shortly(shlex.split(command)), folder)
        assert done.returncode in (0, 4 if command.endswith("doctor") else 0), (
            f"{command}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stdout + done.stderr, command
        if command.startswith("edgeopt init"):  # enough of them to see that the tour goes
            with open(folder / "edgeopt.yaml", "a", encoding="utf-8") as file:
                file.write("recipes: [optimised, int8-minmax]\nthreads: 1\n")
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list((folder / "variants").glob("*.onnx"))


def test_the_python_of_the_readme_runs(folder: Path) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Workspace" in block)
    quick = 'Request(effort="quick", launches=1, recipes=("int8-minmax",), threads=(1,), '
    short = "from support.workflow import shorten_plans\nshorten_plans()\n"
    done = run([sys.executable, "-c", short + code.replace("Request(", quick, 1)], folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"/ \d+ thread.* 1$", done.stdout.strip())


def test_every_exit_code_of_the_readme_is_the_codes_own() -> None:
    from edgeopt import errors
    from edgeopt.cli import output

    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert listed == {
        errors.EXIT_DONE,
        errors.EXIT_USER,
        errors.EXIT_BUDGET,
        errors.EXIT_DEVICE,
        output.EXIT_INTERRUPTED,
    }


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    made = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert {"demo", "test"} <= set(made)
    for target in made:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_make_demo_ends_with_an_active_winner_and_a_page() -> None:
    venv = Path(sys.executable).parent.parent
    done = subprocess.run(["make", "demo", f"VENV={venv}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "winner" in done.stdout
    assert (ROOT / "demo-report.html").is_file()
