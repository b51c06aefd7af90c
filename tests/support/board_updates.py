"""Updates of an app by releases of a fleet, in a runner's root, with a check that only looks at the files."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt_runner import releases, transaction
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.updates import app_state, preflight, standing, update
from support.releases import put_object, whole

APP = "digits"
PROFILE = "board"
STEPS: list[str] = []


def file_of(content: bytes, kind: str) -> dict[str, Any]:
    return {"digest": hashlib.sha256(content).hexdigest(), "size_bytes": len(content), "format": kind}


def golden_of(content: bytes) -> bytes:
    return b"golden of " + content[:20]


def entry_of(content: bytes, **changes: Any) -> dict[str, Any]:
    """An entry of a manifest for a model with these bytes; `changes` of its fields and those of ``health``."""
    health = {"min_cosine": 0.99, "max_latency_ns": 5_000_000, "max_memory_bytes": 1 << 30, "runs": 20}
    health |= {name: changes.pop(name) for name in list(changes) if name in health}
    entry = {
        "variant": "int8",
        "model": file_of(content, "onnx"),
        "golden": file_of(golden_of(content), "npz"),
        "settings": {"runtime": "onnxruntime", "threads": 1},
        "machines": [platform.machine()],
        "min_runtime": "",
        "health": health,
        "measured": None,
        "scratch_bytes": 0,
        "run_id": "",
    }
    return {**entry, **changes}


def manifest_of(content: bytes, version: str, counter: int, **changes: Any) -> dict[str, Any]:
    """A manifest with one entry; `changes` of its fields, or of the entry's where they are named so."""
    fields: dict[str, Any] = {
        "schema": 1,
        "app": APP,
        "version": version,
        "counter": counter,
        "created": 1.0,
        "expires": 4e9,
        "revoked": [],
        "restores": "",
        "notes": "",
    }
    fields |= {name: changes.pop(name) for name in list(changes) if name in fields}
    return {**fields, "entries": changes.pop("entries", {PROFILE: entry_of(content, **changes)})}


def canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def order_of(manifest: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """An ``update`` job for a manifest, unsigned."""
    target = f"releases/{manifest['app']}/{manifest['version']}.json"
    digest = hashlib.sha256(canonical(manifest)).hexdigest()
    order = {"app": manifest["app"], "manifest": digest, "target": target, "profile": PROFILE, "fence": 0}
    owner = {"owner": "anna", "host": "laptop", "reason": "update"}
    return {"kind": "update", "owner": owner, **order, "rollout": "r1", "insecure_unsigned": True, **changes}


def bring(root: Path, content: bytes, version: str, counter: int, **changes: Any) -> dict[str, Any]:
    """Put a release's files in place; returns the ``update`` job for it. `job` has changes of that."""
    job = changes.pop("job", {})
    manifest = manifest_of(content, version, counter, **changes)
    for data in (canonical(manifest), content, golden_of(content)):
        put_object(root, data)
    return order_of(manifest, **job)


def figures(**changes: Any) -> dict[str, Any]:
    """A check's result: healthy, 1 ms, 50 MiB."""
    check = {"passed": True, "cosine": 1.0, "reason": "", "median_ns": 1_000_000, "disturbed": ""}
    check |= {"samples_ns": [1_000_000] * 20, "memory_bytes": 50 << 20}
    return {"status": "ok", "detail": "", "check": {**check, **changes}}


def healthy(job: dict[str, Any]) -> dict[str, Any]:
    return figures()


def wrong(job: dict[str, Any]) -> dict[str, Any]:
    return figures(passed=False, cosine=0.1, reason="cosine 0.1 is below 0.99")


class SickFrom:
    """Healthy, and from launch number `first` (from 1) on as `then` says."""

    def __init__(self, first: int, then: Any = wrong) -> None:
        self.first, self.then, self.calls = first, then, 0

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return healthy(job) if self.calls < self.first else self.then(job)


CHECKS: dict[str, Any] = {"healthy": lambda: healthy, "wrong": lambda: wrong, "sick_after": lambda: SickFrom(5)}
"""``sick_after``: healthy in the four launches before the switch, wrong after it."""


def update_now(root: Path, job: Mapping[str, Any], check: Any = healthy) -> dict[str, Any]:
    """Do an ``update`` job in this process; the field ``update`` of its result."""
    steps: list[str] = []
    found: dict[str, Any] = update.update(str(root), dict(job), check, steps.append)["update"]
    assert steps == found["transitions"]
    return found


def install(
    root: Path, content: bytes, version: str, counter: int, check: Any = healthy, **changes: Any
) -> dict[str, Any]:
    """Bring a release and update to it."""
    return update_now(root, bring(root, content, version, counter, **changes), check)


def state_of(root: Path) -> dict[str, Any]:
    """What the board reports of the app."""
    return next(row for row in releases.report(str(root), verify=True) if row["app"] == APP)


def in_child(kind: str, root: Path, job: Mapping[str, Any], check: str = "healthy", fault: str = "") -> int:
    """Do a job in a process of its own, under a fault; returns its exit code."""
    command = [sys.executable, str(Path(__file__).resolve()), kind, str(root), json.dumps(job), check]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "EDGEOPT_FAULT": fault, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, timeout=60, check=False, stdout=subprocess.DEVNULL).returncode


def act(kind: str, root: Path, job: dict[str, Any], check: Any) -> dict[str, Any]:
    """Do a job of a kind in this process."""
    if kind == "update":
        return update.update(str(root), job, check, STEPS.append)
    kinds: dict[str, Any] = {"return": standing.go_back, "recheck": standing.recheck}
    kinds |= {"activate": releases.activate, "rollback": releases.rollback}
    found: dict[str, Any] = kinds[kind](str(root), job, check)
    return found


def assert_sound(root: Path, *, stopped: bool = False) -> dict[str, Any]:
    """Invariant I0, whatever happened: what is active is whole and verified, nothing is half done after one contact,
    and what is reported is what is there.

    Args:
        root: The runner's root.
        stopped: Whether nothing is expected to be active.

    Returns:
        What the board reports.
    """
    current = root / "apps" / APP / "current"
    if not stopped and os.path.lexists(current):
        whole(current)  # before anything had a chance to repair it
    releases.recover_all(str(root))
    store = ReleaseStore(str(root), APP)
    assert store.journal.last().get("step", "committed") in transaction.DONE
    report = state_of(root)
    for name in ("current", "previous", "golden"):
        number = store.pointer(name)
        assert number is None or number in store.numbers(), f"{name} leads nowhere"
    if stopped:
        assert report["state"] == "safe_stop"
        assert not os.path.lexists(current)
        return report
    assert (report["verified"], report["state"]) == (True, "idle")
    manifest = whole(current)
    assert (report["version"], report["manifest"]) == (manifest.get("version", ""), manifest.get("manifest", ""))
    assert report["counter"] <= report["highest"] or not report["version"]
    leftovers = [path.name for pattern in (".tmp-*", "*.tmp") for path in (root / "apps" / APP).rglob(pattern)]
    assert not leftovers
    assert app_state.state_of(store.journal.last()).safe_stop == ""
    return report


def preflight_of(root: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """What the verb says of the order in a job."""
    from edgeopt_runner.updates import order

    return preflight.preflight(str(root), order.read(dict(job)))


if __name__ == "__main__":
    kind, root, job, check = sys.argv[1:]
    print(act(kind, Path(root), json.loads(job), CHECKS[check]()))
