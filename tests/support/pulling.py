"""A board that pulls: its root, agent's settings, and the bundle run as its timer does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt_runner import held_release, releases, runtimes, storage
from edgeopt_runner.agent import settings
from edgeopt_runner.protocol.samples import write_samples
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.trust import verbs
from support.pull_tree import PullTree, agent_settings
from support.runner import bundle_path
from support.worker import conv_network, outputs_of

_RUNTIMES: list[bytes] = []
"""What one board found of runtimes, for the next: to import all of them takes seconds."""


@lru_cache(maxsize=8)
def model_and_golden(folder: Path, bias: float = 0.0, wrong: bool = False) -> tuple[bytes, bytes]:
    """A small network and its golden samples; `wrong`: samples that it does not give."""
    folder.mkdir(parents=True, exist_ok=True)
    model = conv_network(folder / f"model-{bias}.onnx", bias=bias)
    inputs = np.random.default_rng(1).normal(size=(4, 1, 3, 16, 16)).astype(np.float32)
    reference = outputs_of(model, inputs)
    golden = folder / f"golden-{bias}-{wrong}.npz"
    write_samples(str(golden), {"input:x": inputs, "reference:logits": -reference if wrong else reference})
    return model.read_bytes(), golden.read_bytes()


class PullingBoard:
    """A board.

    Args:
        folder: Of the board.
        tree: Whose root it trusts.
        url: Where it pulls from.
        changes: Of the agent's settings.
    """

    def __init__(self, folder: Path, tree: PullTree, url: str, **changes: Any) -> None:
        self.root = folder / "root"
        storage.prepare(str(self.root))
        verbs.enrol(str(self.root), {"root": tree.first_root, "replace": False})
        if _RUNTIMES:
            (self.root / runtimes.CACHE).write_bytes(_RUNTIMES[0])
        self.configure(url, **changes)
        self.environment = {**os.environ, "EDGEOPT_LOCK": str(folder / "board.lock"), "TZ": "UTC"}

    def configure(self, url: str, **changes: Any) -> None:
        """Write the agent's settings."""
        settings.write(str(self.root), dict(agent_settings(url, **changes)), "")

    def start(
        self, *, fault: str = "", python: str = sys.executable, words: tuple[str, ...] = ("--once",)
    ) -> subprocess.Popen[str]:
        """Start one poll, or what the words of the command say."""
        command = [python, "-I", str(bundle_path()), "pull", "--root", str(self.root), *words]
        environment = {**self.environment, "EDGEOPT_FAULT": fault}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def poll(self, *, fault: str = "", python: str = sys.executable) -> tuple[int, list[dict[str, Any]]]:
        """One poll: its exit code and what it said."""
        process = self.start(fault=fault, python=python)
        said, errors = process.communicate(timeout=120)
        assert fault or "Traceback" not in errors, errors
        if not _RUNTIMES and (self.root / runtimes.CACHE).exists():
            _RUNTIMES.append((self.root / runtimes.CACHE).read_bytes())
        return process.returncode, [json.loads(line) for line in said.splitlines()]

    def outcome(self, *, fault: str = "") -> str:
        """What one poll made of the only offer."""
        _, said = self.poll(fault=fault)
        return next((str(line["outcome"]) for line in said if "outcome" in line), "")

    def release(self, app: str = "digits") -> dict[str, Any]:
        """What the verb ``releases`` says of an app, files hashed."""
        return next((row for row in releases.report(str(self.root), True) if row["app"] == app), {})

    def assert_serves(self, app: str, *versions: str) -> None:
        """What an application gets at any moment, whoever is at work: one release of these versions, undamaged."""
        held = held_release.hold(str(self.root / "apps" / app / "current"))
        try:
            for role in held.manifest["files"]:
                held.file(role)
            assert held.manifest["version"] in versions
        finally:
            held.close()

    def assert_sound(self, app: str, *versions: str) -> None:
        """I0: what is active is whole, of one of these versions (empty: nothing is), and nothing is half done."""
        row = self.release(app)
        version = row.get("version", "")
        assert version in versions, row
        store = ReleaseStore(str(self.root), app)
        current = store.pointer("current")
        if version:
            assert row["verified"], row
            assert current is not None
            assert store.verify(current)["version"] == version
        assert not list(Path(store.path).glob("**/.tmp*"))
