"""Of what a board has the best base is taken, and a patch that is not worth it is not made."""

import random
from pathlib import Path

import pytest

from edgeopt.deltas import best_patch
from edgeopt_runner.patches import apply
from support.deltas import int8_weights, onnx_file, sha256


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return onnx_file(tmp_path / "target.onnx", int8_weights(noise=0.3))


def bases(*paths: Path) -> dict[str, Path]:
    return {sha256(path): path for path in paths}


def test_the_base_that_is_nearest_is_taken(tmp_path: Path, target: Path) -> None:
    near = onnx_file(tmp_path / "near", int8_weights())
    far = onnx_file(tmp_path / "far", int8_weights(noise=30.0, seed=2))
    other = tmp_path / "other"
    other.write_bytes(random.Random(1).randbytes(200_000))
    patch = best_patch(bases(far, other, near), target, ("lzma",), tmp_path / "patches")
    assert patch is not None
    assert patch.base == sha256(near)
    assert (patch.path.name, patch.digest, patch.size_bytes) == (
        patch.digest,
        sha256(patch.path),
        patch.path.stat().st_size,
    )
    apply(str(near), str(patch.path), str(tmp_path / "out"), sha256(target), target.stat().st_size)


def test_where_no_base_helps_the_file_is_only_compressed(tmp_path: Path) -> None:
    words = tmp_path / "target"
    words.write_bytes(b"".join(b"node %d of the graph\n" % number for number in range(5000)))
    other = tmp_path / "other"
    other.write_bytes(random.Random(1).randbytes(50_000))
    patch = best_patch(bases(other), words, ("zlib",), tmp_path / "patches")
    assert patch is not None
    assert patch.base == ""
    assert patch.size_bytes < 0.3 * words.stat().st_size
    apply(None, str(patch.path), str(tmp_path / "out"), sha256(words), words.stat().st_size)


def test_noise_is_sent_whole(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for seed, path in enumerate(files):
        path.write_bytes(random.Random(seed).randbytes(100_000))
    for _ in range(2):  # found, and remembered
        assert best_patch(bases(files[0]), files[1], ("zlib", "lzma"), tmp_path / "patches") is None


def test_what_was_found_is_remembered_as_long_as_the_patch_is_there(tmp_path: Path, target: Path) -> None:
    near = onnx_file(tmp_path / "near", int8_weights())
    first = best_patch(bases(near), target, ("lzma", "zlib"), tmp_path / "patches")
    assert first is not None
    written = first.path.stat().st_mtime_ns
    assert best_patch(bases(near), target, ("zlib", "lzma"), tmp_path / "patches") == first
    assert first.path.stat().st_mtime_ns == written
    first.path.unlink()
    assert best_patch(bases(near), target, ("zlib", "lzma"), tmp_path / "patches") == first
    assert first.path.exists()


def test_a_board_that_has_the_file_is_no_reason_for_a_patch_on_it(tmp_path: Path, target: Path) -> None:
    patch = best_patch(bases(target), target, ("zlib",), tmp_path / "patches")
    assert patch is None or patch.base == ""


def test_the_folder_keeps_patches_and_notes_alone(tmp_path: Path, target: Path) -> None:
    near = onnx_file(tmp_path / "near", int8_weights())
    patch = best_patch(bases(near), target, ("zlib",), tmp_path / "patches")
    assert patch is not None
    names = sorted(path.name for path in (tmp_path / "patches").iterdir())
    assert len(names) == 2
    assert patch.digest in names
