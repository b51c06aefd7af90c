"""The wheel made from the sdist has everything (profiles, templates, the runner) and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    target = folder / "installed"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


def run(installed: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "HOME": str(installed.parent)}
    command = [sys.executable, "-m", "edgeopt.cli.main", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=installed.parent, env=environment
    ).stdout


def test_the_wheel_brings_its_profiles(installed):
    assert "x86-avx2" in run(installed, "profiles", "--json")
    assert (installed / "edgeopt" / "_profiles" / "x86-64.yaml").is_file()


def test_the_wheel_brings_what_the_report_needs(installed):
    report = installed / "edgeopt" / "report"
    assert list(report.glob("_vendor/*.js"))
    assert list(report.glob("templates/*"))


def test_the_runner_of_the_wheel_probes_this_machine(installed):
    assert '"fingerprint"' in run(installed, "device", "probe", "--json")
