"""A runner's root with small objects, and activations of them with a check that only looks at the files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgeopt_runner import releases

SETTINGS = {"runtime": "onnxruntime", "threads": 1, "graph_optimisation": "all", "spinning": True}


def put_object(root: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    folder = root / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{digest}.part-{os.getpid()}"  # never in place: releases have the same file by another name
    part.write_bytes(content)
    part.replace(folder / digest)
    return digest


def activation(root: Path, content: bytes, **changes: Any) -> dict[str, Any]:
    """An ``activate`` job for a model with these bytes, whose objects are put in place."""
    artifact = {"sha256": put_object(root, content), "size": len(content), "format": "onnx"}
    golden = put_object(root, b"golden of " + content[:20])
    job = {"kind": "activate", "app": "digits", "artifact": artifact, "settings": SETTINGS, "golden": golden}
    return {**job, "min_cosine": 0.99, "max_latency_ns": None, "runs": 3, **changes}


def healthy(job: dict[str, Any]) -> dict[str, Any]:
    return {"status": "ok", "detail": "", "check": {"passed": True, "cosine": 1.0, "median_ns": 1000, "reason": ""}}


def wrong(job: dict[str, Any]) -> dict[str, Any]:
    check = {"passed": False, "cosine": 0.1, "median_ns": 1000, "reason": "cosine 0.1 is below 0.99"}
    return {"status": "ok", "detail": "", "check": check}


class HealthyOnce:
    """Passes the check before the switch and fails the one after it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return healthy(job) if self.calls == 1 else wrong(job)


CHECKS: dict[str, Any] = {"healthy": lambda: healthy, "healthy_once": HealthyOnce, "wrong": lambda: wrong}


def in_child(verb: str, root: Path, job: dict[str, Any], check: str, fault: str = "") -> int:
    """Run a verb of the releases in a process of its own, under a fault; returns its exit code."""
    command = [sys.executable, str(Path(__file__).resolve()), verb, str(root), json.dumps(job), check]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "EDGEOPT_FAULT": fault, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, timeout=60, check=False, stdout=subprocess.DEVNULL).returncode


def whole(folder: Path) -> dict[str, Any]:
    """The manifest of a release, whose files were compared with it."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"].values():
        content = (folder / entry["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["size"]
    return manifest


if __name__ == "__main__":
    verb, root, job, check = sys.argv[1:]
    print(getattr(releases, verb)(root, json.loads(job), CHECKS[check]()))
