"""The artifact store survives what happens to disks and processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from edgeopt.core.model import Artifact
from edgeopt.errors import StoreError
from edgeopt.store.artifacts import ArtifactStore
from support.python_children import start_python


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(os.urandom(3 << 20))
    return path


def leftovers(store: ArtifactStore) -> list[Path]:
    return list(store.root.glob("partial/*"))


def test_a_file_is_found_under_the_digest_of_its_bytes_and_cannot_be_written(store: ArtifactStore, model: Path) -> None:
    artifact = store.add(model, "onnx")
    assert artifact == Artifact(hashlib.sha256(model.read_bytes()).hexdigest(), 3 << 20, "onnx")
    assert store.path(artifact).read_bytes() == model.read_bytes()
    assert store.path(artifact).stat().st_mode & 0o222 == 0
    assert store.has(artifact.digest)
    assert not leftovers(store)


def test_editing_the_users_file_does_not_change_the_store(store: ArtifactStore, model: Path) -> None:
    artifact = store.add(model, "onnx")
    with open(model, "r+b") as stream:
        stream.write(b"edited")
    assert store.verify(artifact.digest)


def test_adding_the_same_bytes_again_writes_nothing(store: ArtifactStore, model: Path) -> None:
    inode = store.path(store.add(model, "onnx")).stat().st_ino
    assert store.add_bytes(model.read_bytes(), "onnx").digest == store.add(model, "onnx").digest
    assert store.path(store.add(model, "onnx")).stat().st_ino == inode
    assert len(list(store.root.glob("objects/*/*"))) == 1


def test_a_moved_file_is_gone_from_its_place_and_was_not_copied(store: ArtifactStore, model: Path) -> None:
    inode = model.stat().st_ino
    artifact = store.add(model, "onnx", move=True)
    assert not model.exists()
    assert store.path(artifact).stat().st_ino == inode


def test_moving_a_file_of_the_store_into_the_store_keeps_it(store: ArtifactStore, model: Path) -> None:
    artifact = store.add(model, "onnx")
    store.add(store.path(artifact), "onnx", move=True)
    assert store.verify(artifact.digest)


def test_a_missing_artifact_names_digest_and_remedy(store: ArtifactStore) -> None:
    with pytest.raises(StoreError, match=r"artifact abababababab is not in the store .* Run the command") as caught:
        store.path("ab" * 32)
    assert caught.value.remedy


@pytest.mark.parametrize("digest", ["../../etc/passwd", "AB" * 32, "", "ab" * 31])
def test_a_digest_that_is_none_never_becomes_a_path(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(StoreError, match="is not a SHA-256 digest"):
        store.path(digest)


def test_a_missing_source_file_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*absent\.onnx: No such file"):
        store.add(tmp_path / "absent.onnx", "onnx")


def test_damage_is_found_quarantined_and_healed_by_adding_again(store: ArtifactStore, model: Path) -> None:
    artifact = store.add(model, "onnx")
    path = store.path(artifact)
    path.chmod(0o644)
    path.write_bytes(b"\0" + model.read_bytes()[1:])
    with pytest.raises(StoreError, match="is damaged: it now has the digest"):
        store.verify(artifact.digest)
    assert not store.has(artifact.digest)
    assert (store.root / "quarantine" / artifact.digest).exists()
    store.add(model, "onnx")
    assert store.verify(artifact.digest)


def test_a_cut_file_is_noticed_without_reading_it(store: ArtifactStore, model: Path) -> None:
    artifact = store.add(model, "onnx")
    path = store.path(artifact)
    path.chmod(0o644)
    os.truncate(path, 100)
    with pytest.raises(StoreError, match="has 100 bytes instead of 3145728"):
        store.path(artifact)


def test_only_what_is_old_and_unreferenced_is_removed(store: ArtifactStore) -> None:
    kept, loose = store.add_bytes(b"kept", "onnx"), store.add_bytes(b"loose", "onnx")
    (store.root / "partial" / "dead.part").write_bytes(b"left by a killed process")
    assert store.remove_unreferenced({kept.digest}) == 0
    time.sleep(0.05)
    assert store.remove_unreferenced({kept.digest}, older_than_seconds=0.01) == len(b"loose") + 24
    assert store.has(kept.digest)
    assert not store.has(loose.digest)
    assert not leftovers(store)


_ADD_FOREVER = """
import itertools, os
from pathlib import Path
from edgeopt.store.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in itertools.count():
    store.add_bytes(number.to_bytes(4, "big") * (1 << 17), "bin")
"""


def test_two_writers_killed_at_any_moment_leave_only_whole_files(store: ArtifactStore) -> None:
    for delay in (0.02, 0.07, 0.15):
        children = [start_python(_ADD_FOREVER, str(store.root)) for _ in range(2)]
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
        time.sleep(delay)
        for child in children:
            child.kill()
            child.communicate()
    objects = list(store.root.glob("objects/*/*"))
    assert objects
    for path in objects:
        assert store.verify(path.name).stat().st_size == 4 << 17
    time.sleep(0.02)
    store.remove_unreferenced({path.name for path in objects}, older_than_seconds=0.01)
    assert not leftovers(store)
    assert len(list(store.root.glob("objects/*/*"))) == len(objects)


_ADD_WITH_LIMIT = """
import resource, signal
from pathlib import Path
from edgeopt.errors import StoreError
from edgeopt.store.artifacts import ArtifactStore
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    ArtifactStore(Path(sys.argv[1])).add(Path(sys.argv[2]), "onnx")
except StoreError as error:
    print(error)
"""


def test_a_file_that_the_system_refuses_to_grow_leaves_nothing_behind(store: ArtifactStore, model: Path) -> None:
    out, _ = start_python(_ADD_WITH_LIMIT, str(store.root), str(model)).communicate(timeout=60)
    assert "has no room: 3145728 bytes needed" in out
    assert not leftovers(store)
    assert not list(store.root.glob("objects/*/*"))


def test_a_full_disk_says_what_is_needed_and_what_is_free(tmp_path: Path, model: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        store = ArtifactStore(small / "store")
        with pytest.raises(StoreError, match=r"has no room: 3145728 bytes needed, \d+ free.*Free some space"):
            store.add(model, "onnx")
        assert not leftovers(store)
        assert store.add_bytes(b"small", "bin").size_bytes == 5
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_store_below_a_file_says_that_it_cannot_be_written(model: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write to the store at .*: Not a directory"):
        ArtifactStore(model / "store").add(model, "onnx")
