"""Patches that are published beside releases make the very files, from each of the releases before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.release import HealthLimits, Release, ReleaseEntry
from edgeopt.documents import plain
from edgeopt.workflow.fleet.storing import store
from edgeopt.workflow.fleet.tree import repository_of
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner import patches
from edgeopt_runner.protocol import ready_patches
from support.publishing import make_keys
from support.worker import conv_network


@pytest.fixture
def workspace(edgeopt_home: Path) -> Iterator[Workspace]:
    with Workspace.open() as opened:
        make_keys(opened)
        yield opened


def publish(workspace: Workspace, folder: Path, number: int) -> str:
    """Publish release `number` of a network of which only the bias changes; the model's digest."""
    folder.mkdir(exist_ok=True)
    repository, files = repository_of(workspace), {}
    model = conv_network(folder / f"{number}.onnx", channels=2048, bias=float(number))
    (folder / "golden.npz").write_bytes(b"golden")
    for kind, path in (("onnx", model), ("npz", folder / "golden.npz")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        repository.put_blob(path, digest)
        files[kind] = Artifact(digest, path.stat().st_size, kind)
    entry = ReleaseEntry("original", files["onnx"], files["npz"], Settings(), (), "", HealthLimits(0.99, runs=5))
    now = int(time.time())
    release = Release("digits", f"{number}.0", number, now, now + 86400, {"pi5": entry})
    data = json.dumps({"schema": 1, **plain(release)}, sort_keys=True, separators=(",", ":")).encode()
    repository.add_target(f"releases/digits/{number}.0.json", data)
    repository.publish()
    return files["onnx"].digest


def listed(place: Path, digest: str) -> list[ready_patches.Ready]:
    return ready_patches.read((place / ready_patches.path(digest)).read_bytes())


def test_a_store_has_a_patch_from_each_release_before_and_each_makes_the_file(
    workspace: Workspace, tmp_path: Path
) -> None:
    place = tmp_path / "store"
    first = publish(workspace, tmp_path / "networks", 1)
    store(workspace, str(place))
    assert not (place / "patches").exists(), "weights of noise do not compress, and nothing was before"
    second = publish(workspace, tmp_path / "networks", 2)
    store(workspace, str(place))
    assert [row.base for row in listed(place, second)] == [first]
    third = publish(workspace, tmp_path / "networks", 3)
    done = store(workspace, str(place))
    rows = listed(place, third)
    assert {row.base for row in rows} == {first, second}
    assert done.sent_bytes < 1.5 * (place / "blobs" / third).stat().st_size
    for row in rows:
        made, patch = tmp_path / f"made-{row.base[:8]}", place / "blobs" / row.sha256
        assert patch.stat().st_size == row.size < 0.1 * (place / "blobs" / third).stat().st_size
        patches.apply(
            str(place / "blobs" / row.base), str(patch), str(made), third, (place / "blobs" / third).stat().st_size
        )
        assert hashlib.sha256(made.read_bytes()).hexdigest() == third
    assert store(workspace, str(place)).sent_files == 0
