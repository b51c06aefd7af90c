"""Patches make exactly the target, send only what changed, and are the same bytes every time."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeopt.deltas import PatchReport, coding, make_patch
from edgeopt_runner.patches import apply
from edgeopt_runner.protocol.patch_format import BZ2, GRAINS, LZMA, RAW, ZLIB, parse
from support.deltas import Tensors, int8_weights, onnx_file, sha256

ALL = ("zlib", "bz2", "lzma")


def made(folder: Path, base: bytes | None, target: bytes, algorithms: tuple[str, ...] = ALL) -> PatchReport:
    """Make a patch, apply it as a board does, and prove that it gave the target."""
    (folder / "target").write_bytes(target)
    if base is not None:
        (folder / "base").write_bytes(base)
    there = folder / "base" if base else None
    report = make_patch(folder / "base" if base is not None else None, folder / "target", folder / "patch", algorithms)
    out = folder / "out"
    apply(there and str(there), str(folder / "patch"), str(out), sha256(folder / "target"), len(target))
    assert out.read_bytes() == target
    assert sum(report.by_kind.values()) == len(target)
    return report


def models(folder: Path, base: Tensors, target: Tensors) -> tuple[bytes, bytes]:
    return onnx_file(folder / "b", base).read_bytes(), onnx_file(folder / "t", target).read_bytes()


def codecs_of(path: Path) -> set[int]:
    with path.open("rb") as stream:
        patch = parse(stream.read, path.stat().st_size)
    return {part.codec for one in patch.streams.values() for part in one.parts}


edits = st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=40)), max_size=6)


@given(base=st.binary(max_size=3000), target=st.binary(max_size=3000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_target_comes_back_from_any_base(tmp_path: Path, base: bytes, target: bytes) -> None:
    made(tmp_path, base, target)
    made(tmp_path, None, target, ("zlib",))


@given(edits=edits, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_edit_comes_back(tmp_path: Path, edits: list[tuple[int, bytes]], seed: int) -> None:
    base = random.Random(seed).randbytes(5000)
    target = bytearray(base)
    for place, new in edits:
        target[place : place + len(new) // 2] = new
    made(tmp_path, base, bytes(target))


@pytest.mark.parametrize("kind", ["int8", "uint8", "float16", "int32", "float32", "int64", "float64"])
def test_numbers_of_every_width_that_moved_a_little_come_back(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(0).normal(0, 40, 30_001)
    base, target = ({"w": (values + move).astype(kind)} for move in (0, np.random.default_rng(1).normal(0, 1, 30_001)))
    report = made(tmp_path, *models(tmp_path, base, target))
    assert report.by_kind["add"] > 0
    assert report.share < 0.95


def test_unchanged_tensors_are_not_sent(tmp_path: Path) -> None:
    weights = int8_weights()
    changed = {**weights, "layer3.weight": -weights["layer3.weight"][::-1]}
    report = made(tmp_path, *models(tmp_path, weights, changed))
    assert report.by_kind["copy"] > 3 * 50_000
    assert report.size_bytes < 1.05 * 50_000


def test_a_fine_tuned_int8_network_takes_little_more_than_its_entropy(tmp_path: Path) -> None:
    base, target = models(tmp_path, int8_weights(), int8_weights(noise=0.3))
    change = np.frombuffer(target, np.uint8)[-190_000:] - np.frombuffer(base, np.uint8)[-190_000:]
    shares = np.unique(change, return_counts=True)[1] / len(change)
    entropy = -(shares * np.log2(shares)).sum() / 8
    for algorithms in (ALL, ("zlib",)):
        report = made(tmp_path, base, target, algorithms)
        assert entropy < report.share < 1.05 * entropy < 0.15


def test_a_part_of_a_tensor_that_is_frozen_is_copied(tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(-127, 127, (400, 200), np.int8)
    tuned = table.copy()
    tuned[:40] = np.random.default_rng(1).integers(-127, 127, (40, 200), np.int8)
    report = made(tmp_path, *models(tmp_path, {"embedding": table}, {"embedding": tuned}))
    assert report.by_kind["copy"] > 350 * 200


def test_renamed_and_reordered_tensors_find_their_partners(tmp_path: Path) -> None:
    weights = int8_weights()
    renamed = {f"new_{name}": value for name, value in reversed(weights.items())}
    assert made(tmp_path, *models(tmp_path, weights, renamed)).share < 0.01
    retrained = {f"new_{name}": value for name, value in int8_weights(noise=0.3).items()}
    assert made(tmp_path, *models(tmp_path, weights, retrained)).share < 0.15


def test_a_format_that_is_not_walked_is_patched_by_blocks_and_differences(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(300_000)
    assert made(tmp_path, noise, noise[:1000] + b"inserted" + noise[1000:]).size_bytes < 1000
    floats = [np.random.default_rng(0).normal(0, 1, 50_000).astype("<f4")]
    floats.append(floats[0] * np.float32(1.0001))
    assert made(tmp_path, *(values.tobytes() for values in floats)).share < 0.6


def test_an_added_layer_does_not_disturb_the_others(tmp_path: Path) -> None:
    weights = int8_weights()
    added = {"stem.weight": np.random.default_rng(9).integers(-127, 127, 2000, np.int8), **weights}
    assert made(tmp_path, *models(tmp_path, weights, added)).size_bytes < 3000


def test_the_same_files_give_the_same_patch(tmp_path: Path) -> None:
    base, target = models(tmp_path, int8_weights(), int8_weights(noise=0.5))
    patches = []
    for _ in range(2):
        made(tmp_path, base, target)
        patches.append((tmp_path / "patch").read_bytes())
    assert patches[0] == patches[1]


def test_a_board_without_lzma_and_bz2_gets_zlib(tmp_path: Path) -> None:
    made(tmp_path, *models(tmp_path, int8_weights(), int8_weights(noise=2.0)), ("zlib", "brotli"))
    assert codecs_of(tmp_path / "patch") <= {RAW, ZLIB}


@pytest.mark.parametrize(("algorithm", "codec"), [("zlib", ZLIB), ("bz2", BZ2), ("lzma", LZMA)])
def test_what_is_compressed_by_each_algorithm_comes_back(tmp_path: Path, algorithm: str, codec: int) -> None:
    text = b" ".join(b"%d times %d" % (number % 97, number * number % 89) for number in range(20_000))
    made(tmp_path, None, text, (algorithm,))
    assert codecs_of(tmp_path / "patch") == {codec}


@given(plain=st.binary(max_size=300), grain=st.sampled_from(GRAINS))
@settings(max_examples=100, deadline=None)
def test_the_parts_of_a_stream_hold_its_bits(plain: bytes, grain: int) -> None:
    parts = [np.frombuffer(part, np.uint8) for part in coding.split(plain, grain)]
    each = 8 // grain
    for place, byte in enumerate(plain):
        bits = [int(part[place // each]) >> grain * (place % each) & (1 << grain) - 1 for part in parts]
        assert sum(bit << grain * number for number, bit in enumerate(bits)) == byte
