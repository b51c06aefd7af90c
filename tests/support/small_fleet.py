"""Boards behind one real sshd, each with a root of its own, and an operator's computer with keys and small releases."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeopt.remote.inventory import Inventory
from edgeopt.workflow.fleet.auditing import audit_log
from edgeopt.workflow.fleet.boards import enrol_board, load_fleet
from edgeopt.workflow.fleet.composing import ReleaseRequest
from edgeopt.workflow.fleet.publishing import publish
from edgeopt.workflow.workspace import Workspace
from support.device import fresh_computer, pin
from support.publishing import keep_run, make_keys
from support.pulling import model_and_golden
from support.sshd import Sshd, running_sshd
from support.workflow import COMMAND

PROFILE = "generic-x86_64"
LOOSE = ("--max-slower", "9900%", "--max-memory", "9900%")
"""What is tested is never a clock."""


@dataclass
class SmallFleet:
    """The boards and the computer.

    Attributes:
        folder: Of everything.
        sshd: What all boards are reached by.
        names: Of the boards.
    """

    folder: Path
    sshd: Sshd
    names: tuple[str, ...]

    @property
    def home(self) -> Path:
        """Edgeopt's home on the computer."""
        return self.folder / "computer/edgeopt"

    def noted(self, what: str) -> int:
        """How many lines of that kind the audit log has."""
        with Workspace.open(self.home) as workspace:
            return sum(entry.what == what for entry in audit_log(workspace).entries())

    def root(self, name: str) -> Path:
        """A board's root."""
        return self.sshd.home / name

    def publish(self, workspace: Workspace, *versions: str) -> None:
        """Releases of the app ``net``, each with a file of its own and no limit that a busy machine could miss."""
        for number, version in enumerate(versions):
            files = model_and_golden(self.folder / "networks", float(number))
            keep_run(workspace, self.folder, f"run-{version}", profile=PROFILE, files=files)
            publish(ReleaseRequest("net", version, runs=(f"run-{version}",), margin=99.0), workspace)

    def enrol(self, workspace: Workspace, *names: str) -> None:
        """Have these boards trust this computer's keys."""
        for name in names:
            enrol_board(load_fleet(workspace).board(name), workspace, confirm=lambda _: False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        environment = {**os.environ, "EDGEOPT_HOME": str(self.home), "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", COMMAND, *words]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, **pipes, text=True, env=environment)  # type: ignore[call-overload, no-any-return]

    def run(self, *words: str, code: int) -> list[dict[str, Any]]:
        """A command with ``--json`` to its end, which must be this exit code: its one document, or its events."""
        process = self.start(*words, "--json")
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, out + err
        try:
            return [json.loads(out)]
        except ValueError:
            return [json.loads(line) for line in out.splitlines()]

    def running(self, name: str, app: str = "net") -> tuple[str, int]:
        """Version and number of the release that is active on a board; nothing: ``("", 0)``."""
        current = self.root(name) / "apps" / app / "current"
        if not current.exists():
            return "", 0
        version = json.loads((current / "manifest.json").read_text())["version"]
        return str(version), int(os.readlink(current).rpartition("/")[2])


@contextlib.contextmanager
def small_fleet(folder: Path, patch: pytest.MonkeyPatch, names: tuple[str, ...]) -> Iterator[SmallFleet]:
    """A computer with keys that has added boards of these names; none is enrolled, and nothing is published."""
    fresh_computer(folder, patch)
    patch.chdir(folder)
    with running_sshd(folder / "sshd", environment={"EDGEOPT_LOCK": str(folder / "board.lock")}) as server:
        pin(server)
        with Workspace.open() as workspace:
            make_keys(workspace)
            for name in names:
                root = str(server.home / name)
                device = server.device(name, root=root, python=sys.executable, profile=PROFILE)
                Inventory(workspace.root / "devices.yaml").add(device)
        yield SmallFleet(folder, server, names)


def next_event(process: subprocess.Popen[str], **wanted: Any) -> dict[str, Any]:
    """Read a command's events up to the first that has these fields."""
    assert process.stdout is not None
    heard = []
    for line in process.stdout:
        heard.append(event := json.loads(line))
        if all(event.get(name) == value for name, value in wanted.items()):
            return dict(event)
    raise AssertionError(f"no event with {wanted} among {heard}; {process.communicate()[1]}")
