"""A patch gives its result or nothing: cut and damaged ones, wrong bases, failing disks, every interpreter."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeopt_runner.patches import apply
from edgeopt_runner.protocol import patch_format
from edgeopt_runner.refusals import Refusal
from support.deltas import sha256
from support.failing_disk import failing
from support.patching import Case, make_case, peak_growth_bytes, written
from support.pythons import VERSIONS, interpreter


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), layers=2, count=5000)


def refusal(case: Case, out: Path, **paths: Path) -> Refusal:
    """How it is refused; nothing may be left behind."""
    with pytest.raises(Refusal) as caught:
        case.apply(out, **paths)
    assert list(out.parent.glob(out.name + "*")) == []
    return caught.value


def test_the_result_is_the_target_and_nothing_else_is_left(case: Case, tmp_path: Path) -> None:
    (tmp_path / "out.rebuild").write_bytes(b"left by one that was killed")
    case.apply(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == case.target.read_bytes()
    assert os.listdir(tmp_path) == ["out"]


def test_a_patch_that_is_cut_anywhere_is_refused(case: Case, tmp_path: Path) -> None:
    data = case.patch.read_bytes()
    for size in [*range(400), *range(400, len(data), 97), len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:size])
        assert refusal(case, tmp_path / "out", patch=tmp_path / "cut").code == "bad_patch"


def test_bytes_behind_the_end_are_refused(case: Case, tmp_path: Path) -> None:
    longer = written(tmp_path, case.patch.read_bytes() + b"x")
    assert refusal(case, tmp_path / "out", patch=longer).code == "bad_patch"


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_refused_or_says_nothing(case: Case, tmp_path: Path, data: st.DataObject) -> None:
    patch = bytearray(case.patch.read_bytes())
    place = data.draw(st.one_of(st.integers(0, 500), st.integers(0, len(patch) - 1)))
    patch[place] ^= 1 << data.draw(st.integers(0, 7))
    out = tmp_path / "out"
    (tmp_path / "patch").write_bytes(patch)
    with contextlib.suppress(Refusal):
        case.apply(out, patch=tmp_path / "patch")
        assert sha256(out) == case.digest
        out.unlink()
    assert os.listdir(tmp_path) == ["patch"]


@given(junk=st.binary(max_size=400))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_behind_a_sound_head_is_refused(case: Case, tmp_path: Path, junk: bytes) -> None:
    head = case.patch.read_bytes()[: patch_format.HEAD.size]
    refusal(case, tmp_path / "out", patch=written(tmp_path, head + junk))
    refusal(case, tmp_path / "out", patch=written(tmp_path, junk))


def test_another_base_of_the_same_size_is_refused_by_its_digest(case: Case, tmp_path: Path) -> None:
    damaged = bytearray(case.base.read_bytes())
    damaged[-1] ^= 1
    caught = refusal(case, tmp_path / "out", base=written(tmp_path, bytes(damaged)))
    assert caught.code == "digest_mismatch"
    assert "base" in caught.message


def test_a_base_of_another_size_or_none_is_refused_before_anything_is_written(case: Case, tmp_path: Path) -> None:
    assert refusal(case, tmp_path / "out", base=written(tmp_path, b"short")).code == "bad_patch"
    assert refusal(case, tmp_path / "out", base=tmp_path / "gone").code == "missing_object"
    with pytest.raises(Refusal, match="is for the base"):
        apply(None, str(case.patch), str(tmp_path / "out"), case.digest, case.size)


def test_a_patch_for_another_result_is_refused(case: Case, tmp_path: Path) -> None:
    for digest, size in (("0" * 64, case.size), (case.digest, case.size - 1)):
        with pytest.raises(Refusal, match="it makes") as caught:
            apply(str(case.base), str(case.patch), str(tmp_path / "out"), digest, size)
        assert caught.value.code == "bad_patch"


def test_a_disk_that_fails_at_any_call_leaves_no_result_or_the_right_one(case: Case, tmp_path: Path) -> None:
    with failing(tmp_path, lambda _call, _where: None) as disk:
        case.apply(tmp_path / "out")
    assert disk.calls > 5
    for number in range(1, disk.calls + 1):
        (tmp_path / "out").unlink()

        def fails(call: int, _where: str, number: int = number) -> None:
            if call == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(OSError, match="No space"), failing(tmp_path, fails):
            case.apply(tmp_path / "out")
        assert not (tmp_path / "out").exists() or sha256(tmp_path / "out") == case.digest
        case.apply(tmp_path / "out")
        assert os.listdir(tmp_path) == ["out"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    case = make_case(tmp_path, layers=8, count=1 << 20)
    growth = peak_growth_bytes(case.base, case.patch, tmp_path / "out", case.digest, case.size)
    assert sha256(tmp_path / "out") == case.digest
    assert growth < 8 << 20


@pytest.mark.parametrize("version", VERSIONS)
def test_a_patch_applies_on(version: str, case: Case, tmp_path: Path) -> None:
    python = interpreter(version)
    peak_growth_bytes(case.base, case.patch, tmp_path / "out", case.digest, case.size, python=python)
    assert sha256(tmp_path / "out") == case.digest
