"""The main job for tests: a network with samples, a computer that has made its variants before, short plans, and the
command line as a process that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.core import plan
from edgeopt.core.budget import Budget
from edgeopt.core.device import LOCAL, DeviceFacts
from edgeopt.core.measurement import Measurement
from edgeopt.core.variant import Variant
from edgeopt.documents import decode_json
from edgeopt.remote.client import connect
from edgeopt.store import tables
from edgeopt.workflow import tuning
from edgeopt.workflow.request import DataRequest, Request
from edgeopt.workflow.workspace import Workspace
from support.networks import mlp_onnx

SHORT = replace(
    plan.QUICK, min_seconds=0.2, max_seconds=3.0, window_seconds=0.02, warmup_seconds=0.05, max_warmup_seconds=1.0
)
RECIPES = ("optimised", "int8-minmax")
SHORT_WORDS = (
    "--runtimes",
    "onnxruntime",
    "--threads",
    "1",
    "--effort",
    "quick",
    "--launches",
    "1",
    "--evaluation",
    "24",
    "--calibration",
    "16",
)
NOISE = 0.05

COMMAND = "from support.workflow import shorten_plans; shorten_plans(); from edgeopt.cli.main import main; main()"
"""Python for the command line with short plans."""


def shorten_plans(patch: pytest.MonkeyPatch | None = None) -> None:
    """Make the quick plans too short for good numbers: what is tested is never a clock."""
    patched = patch or pytest.MonkeyPatch()
    patched.setattr(tuning, "QUICK", SHORT)
    patched.setitem(plan.FINALS, "quick", replace(SHORT, min_samples=130))


@dataclass(frozen=True)
class Task:
    """A network (`x` [N, 32] to `y` [N, 10]) and samples of it, in a folder."""

    folder: Path

    @property
    def network(self) -> Path:
        return self.folder / "net.onnx"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.npz"

    def request(self, **changes: Any) -> Request:
        """The main job on this network, as short as it gets; `changes` replace fields of the request."""
        fields: dict[str, Any] = {
            "data": DataRequest(source=str(self.samples), evaluation_samples=24, calibration_samples=16),
            "budget": Budget(max_drop=0.05),
            "recipes": RECIPES,
            "runtimes": ("onnxruntime",),
            "threads": (1,),
            "effort": "quick",
            "launches": 1,
        }
        return Request(model=str(self.network), **{**fields, **changes})

    def words(self, *more: str, recipes: str = ",".join(RECIPES)) -> list[str]:
        """The same as `request` for the command line."""
        data = ["--data", str(self.samples), "--max-drop", "5%", "--recipes", recipes]
        return ["deploy", str(self.network), *data, *SHORT_WORDS, *more]


def make_task(folder: Path, *, width: int = 64, labels: bool = False) -> Task:
    """Write the network and forty samples, with its own answers as labels where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    task = Task(folder)
    mlp_onnx(task.network, width=width)
    inputs = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    arrays = {"x": inputs}
    if labels:
        arrays["labels"] = run_onnx(task.network, inputs).argmax(axis=1)
    np.savez(task.samples, **arrays)
    return task


def run_onnx(model: Path, inputs: np.ndarray) -> np.ndarray:
    """Output `y` of a file on this computer, through a session of the test's own."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": inputs})[0]
    return found


class Heard:
    """A listener that keeps all it hears, one line a step."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._stage = ""

    def stage(self, name: str, total: int) -> None:
        self._stage = name
        self.lines.append(name)

    def detail(self, text: str) -> None:
        pass

    def advance(self, text: str) -> None:
        self.lines.append(f"{self._stage}: {text}")

    def note(self, text: str) -> None:
        self.lines.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Computer:
    """A user's computer whose own home is the home of the device ``local`` too."""

    home: Path
    edgeopt_home: Path

    @property
    def root(self) -> Path:
        """The runner's folder on the device ``local``."""
        return self.home / ".edgeopt"

    def workspace(self) -> Workspace:
        return Workspace.open(self.edgeopt_home)

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command with pipes for its output."""
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        )

    def jobs(self, kind: str = "measure", root: Path | None = None) -> list[dict[str, Any]]:
        """Every job of a kind that a device was given: its order, with ``folder`` and ``state``."""
        found = []
        for folder in sorted((root or self.root).glob("jobs/*")):
            order = _json(folder / "job.json")
            if order.get("kind") == kind:
                found.append({**order, "folder": folder, "state": _json(folder / "state.json")})
        return found


def _json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document


def make_computer(folder: Path, patch: pytest.MonkeyPatch, *, like: Path | None = None) -> Computer:
    """A computer of its own, as the environment of this process says; `like` is an edgeopt home to begin with."""
    home = folder / "computer"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    edgeopt_home = home / "edgeopt"
    if like is not None:
        shutil.copytree(like, edgeopt_home)
    variables = {"HOME": home, "EDGEOPT_HOME": edgeopt_home, "EDGEOPT_LOCK": folder / "local.lock"}
    for name, value in variables.items():
        patch.setenv(name, str(value))
    for name in ("SSH_AUTH_SOCK", "EDGEOPT_FAULT", "EDGEOPT_LEDGER", "EDGEOPT_ROOT"):
        patch.delenv(name, raising=False)
    return Computer(home, edgeopt_home)


def eventually(found: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Poll until `found` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(0.01)
    return value


def known_variants(workspace: Workspace) -> dict[str, Variant]:
    """Every variant in the ledger, by name."""
    with workspace.ledger._database.reading() as connection:
        rows = connection.execute(tables.variants.select().where(tables.variants.c.kind == "variant")).all()
    variants = [decode_json(Variant, row.document, where="ledger") for row in rows]
    return {variant.name: variant for variant in variants}


def known_measurements(workspace: Workspace) -> dict[tuple[str, int], Measurement]:
    """Every launch in the ledger, by key and number."""
    with workspace.ledger._database.reading() as connection:
        rows = connection.execute(tables.measurements.select()).all()
    return {(row.key, row.launch): decode_json(Measurement, row.document, where="ledger") for row in rows}


def probe_of_this_machine() -> DeviceFacts:
    """What the device ``local`` says about itself."""
    with connect(LOCAL) as connection:
        return connection.probe()
