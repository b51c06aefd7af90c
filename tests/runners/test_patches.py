"""A patch gives its result or nothing: damaged and hostile ones, wrong bases, kills, full disks, every interpreter."""

import contextlib
import hashlib
import json
import lzma
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeopt.deltas import make_patch
from edgeopt_runner.patches import apply
from edgeopt_runner.protocol import patch_format
from edgeopt_runner.protocol.patch_format import ADD, COPY, DATA, LZMA, OPERATION, RAW, ZLIB, Part, Patch, Stream
from edgeopt_runner.refusals import Refusal
from support.deltas import int8_weights, onnx_file, sha256
from support.pythons import VERSIONS, interpreter
from support.runner import Runner, bundle_path, job

NOISE = random.Random(1).randbytes(20_000)


@dataclass(frozen=True)
class Case:
    """A base, a target and the patch between them."""

    base: Path
    target: Path
    patch: Path

    @property
    def digest(self) -> str:
        return sha256(self.target)

    @property
    def size(self) -> int:
        return self.target.stat().st_size

    def apply(self, out: Path, *, base: Path | None = None, patch: Path | None = None) -> None:
        apply(str(base or self.base), str(patch or self.patch), str(out), self.digest, self.size)


def make_case(folder: Path, **weights: int) -> Case:
    weights_before = {**int8_weights(**weights), "scale": np.float32([1, 2, 3]), "frozen": np.frombuffer(NOISE, "u1")}
    floats = np.random.default_rng(0).normal(0, 1, 3000).astype(np.float32)
    base = onnx_file(folder / "base.onnx", {**weights_before, "f": floats})
    after = {**weights_before, **int8_weights(noise=0.4, **weights), "f": floats * np.float32(1.001)}
    case = Case(base, onnx_file(folder / "target.onnx", after), folder / "patch")
    make_patch(case.base, case.target, case.patch, ("zlib", "lzma"))
    return case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), layers=2, count=5000)


def refusal(case: Case, out: Path, **paths: Path) -> Refusal:
    """How it is refused; nothing may be left behind."""
    with pytest.raises(Refusal) as caught:
        case.apply(out, **paths)
    assert list(out.parent.glob(out.name + "*")) == []
    return caught.value


def written(folder: Path, data: bytes) -> Path:
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    return path


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


# what only a hostile host would send: it is well-formed, and says something that must not be done


def hostile(
    folder: Path, operations: list[tuple[int, int, int, int]], parts: list[tuple], **sizes: int
) -> tuple[Path, int]:
    """A patch on a base of 100 bytes; parts are (key, grain, plain bytes, codec, content)."""
    streams: dict[patch_format.Key, Stream] = {}
    for key, grain, plain, codec, content in parts:
        before = streams.get(key, Stream(grain, plain, ()))
        streams[key] = Stream(grain, plain, (*before.parts, Part(codec, 0, len(content))))
    packed = b"".join(OPERATION.pack(kind, width, 0, 0, length, offset) for kind, width, length, offset in operations)
    size = sizes.get("size", sum(length for _, _, length, _ in operations))
    patch = Patch("11" * 32, 100, "22" * 32, size, streams, packed)
    return written(folder, patch_format.pack(patch) + b"".join(content for *_, content in parts)), size


BOMB = zlib.compress(bytes(50 << 20))
WIDE = lzma.compress(
    b"x" * 99, format=lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 26, "preset": 0}]
)
ONE = (DATA, 1, 0)
HOSTILE = {
    "reads past the base": ([(COPY, 1, 50, 51)], []),
    "reads far past the base": ([(COPY, 1, 50, 2**64 - 20)], []),
    "unknown kind": ([(4, 1, 10, 0)], []),
    "no width": ([(ADD, 0, 10, 0)], []),
    "odd width": ([(DATA, 3, 9, 0)], [((DATA, 3, plane), 8, 3, RAW, b"abc") for plane in range(3)]),
    "length is no multiple": ([(ADD, 4, 10, 0)], []),
    "empty operation": ([(COPY, 1, 0, 0)], []),
    "no stream": ([(DATA, 1, 10, 0)], []),
    "stream too short": ([(DATA, 1, 10, 0)], [(ONE, 8, 10, ZLIB, zlib.compress(b"nine byte"))]),
    "stream not used up": ([(DATA, 1, 10, 0)], [(ONE, 8, 11, RAW, b"eleven byte")]),
    "stream nobody uses": ([(COPY, 1, 10, 0)], [((COPY, 1, 0), 8, 5, RAW, b"abcde")]),
    "raw of another size": ([(DATA, 1, 10, 0)], [(ONE, 8, 10, RAW, b"abc")]),
    "part missing": ([(DATA, 1, 10, 0)], [(ONE, 4, 10, RAW, b"abcde")]),
    "part too many": ([(DATA, 1, 5, 0)], [(ONE, 8, 5, RAW, b"abcde")] * 2),
    "unknown grain": ([(DATA, 1, 8, 0)], [(ONE, 1, 8, RAW, b"a")] * 8),
    "no grain": ([(DATA, 1, 8, 0)], [(ONE, 0, 8, RAW, b"")]),
    "parts disagree": ([(DATA, 1, 4, 0)], [(ONE, 4, 4, RAW, b"ab"), (ONE, 4, 4, ZLIB, b"")]),
    "lzma in a part of bits": ([(DATA, 1, 4, 0)], [(ONE, 4, 4, LZMA, WIDE)] * 2),
    "unknown codec": ([(DATA, 1, 4, 0)], [(ONE, 8, 4, 9, b"abcd")]),
    "not zlib": ([(DATA, 1, 4, 0)], [(ONE, 8, 4, ZLIB, b"abcd")]),
    "lzma that takes 64 MiB": ([(DATA, 1, 99, 0)], [(ONE, 8, 99, LZMA, WIDE)]),
    "bz2 that takes 4 MiB": ([(DATA, 1, 99, 0)], [(ONE, 8, 99, 2, b"BZh9" + bytes(50))]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_patch_is_refused(tmp_path: Path, name: str) -> None:
    operations, parts = HOSTILE[name]
    patch, size = hostile(tmp_path, operations, parts)
    base = written(tmp_path, bytes(100))
    with pytest.raises(Refusal) as caught:
        apply(str(base), str(patch), str(tmp_path / "out"), "22" * 32, size)
    assert caught.value.code == "bad_patch", caught.value.message
    assert not list(tmp_path.glob("out*"))


def test_tables_that_are_too_long_are_refused(tmp_path: Path) -> None:
    base = written(tmp_path, bytes(100))
    many, size = hostile(tmp_path, [(COPY, 1, 1, 0)] * (patch_format.MOST_OPERATIONS + 1), [])
    keys = [(kind, width, plane) for kind in (1, 2, 3) for width in (1, 2, 4, 8) for plane in range(width)]
    parts = [(key, 4, 0, RAW, b"") for key in keys for _ in range(2)]
    for patch, length in ((many, size), hostile(tmp_path, [], parts)):
        with pytest.raises(Refusal, match="too many"):
            apply(str(base), str(patch), str(tmp_path / "out"), "22" * 32, length)


def test_a_bomb_gives_no_more_than_was_declared(tmp_path: Path) -> None:
    base = written(tmp_path, bytes(100))
    patch, size = hostile(tmp_path, [(DATA, 1, 1000, 0)], [(ONE, 8, 1000, ZLIB, BOMB)])
    peak = peak_growth_bytes(base, patch, tmp_path / "out", "22" * 32, size, expect="digest_mismatch")
    assert peak < 2 << 20


# memory, interpreters

_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from edgeopt_runner import memory, patches
from edgeopt_runner.refusals import Refusal
before = memory.peak_bytes()
try:
    patches.apply(*sys.argv[2:6] + [int(sys.argv[6])])
    end = "ok"
except Refusal as error:
    end = error.code
print(end, memory.peak_bytes() - before)
"""


def peak_growth_bytes(
    base: Path, patch: Path, out: Path, digest: str, size: int, expect: str = "ok", python: str = sys.executable
) -> int:
    """How far the peak memory (VmHWM) of a real child rose while it applied a patch."""
    arguments = [str(bundle_path()), str(base), str(patch), str(out), digest, str(size)]
    done = subprocess.run([python, "-I", "-c", _CHILD, *arguments], capture_output=True, text=True, check=True)
    end, growth = done.stdout.split()
    assert end == expect
    return int(growth)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    case = make_case(tmp_path, layers=16, count=1 << 20)
    growth = peak_growth_bytes(case.base, case.patch, tmp_path / "out", case.digest, case.size)
    assert sha256(tmp_path / "out") == case.digest
    assert growth < 8 << 20


@pytest.mark.parametrize("version", VERSIONS)
def test_a_patch_applies_on(version: str, case: Case, tmp_path: Path) -> None:
    python = interpreter(version)
    peak_growth_bytes(case.base, case.patch, tmp_path / "out", case.digest, case.size, python=python)
    assert sha256(tmp_path / "out") == case.digest


# the job


@contextlib.contextmanager
def board(case: Case, root: Path, fault: str = "") -> Iterator[Runner]:
    """A runner that has the base and the patch."""
    with Runner(root, fault=fault) as runner:
        for path in (case.base, case.patch):
            assert runner.receive(sha256(path), path.stat().st_size, path.read_bytes())[-1] == {"ok": True}
        yield runner


def rebuild_job(case: Case, **fields: object) -> dict[str, object]:
    names = {"base": sha256(case.base), "patch": sha256(case.patch), "result": case.digest, "size": case.size}
    return job("rebuild", **{**names, **fields})


def objects(runner: Runner) -> list[str]:
    return sorted(path.name for path in (runner.root / "objects").iterdir())


def test_the_job_makes_the_object_and_uses_the_patch_up(case: Case, tmp_path: Path) -> None:
    with board(case, tmp_path / "root") as runner:
        result = runner.finish(rebuild_job(case))
        assert (result["status"], result["rebuild"]) == ("ok", {"sha256": case.digest, "size": case.size}), result
        assert objects(runner) == sorted([sha256(case.base), case.digest])
        assert sha256(runner.root / "objects" / case.digest) == case.digest


def test_what_is_there_is_not_made_again(case: Case, tmp_path: Path) -> None:
    with board(case, tmp_path / "root") as runner:
        runner.receive(case.digest, case.size, case.target.read_bytes())
        before = (runner.root / "objects" / case.digest).stat()
        assert runner.finish(rebuild_job(case, base="0" * 64))["status"] == "ok"
        assert (runner.root / "objects" / case.digest).stat() == before


def test_a_base_that_only_a_release_has_will_do(case: Case, tmp_path: Path) -> None:
    with board(case, tmp_path / "root") as runner:
        release = runner.root / "apps" / "detector" / "releases" / "1"
        release.mkdir(parents=True)
        (runner.root / "objects" / sha256(case.base)).rename(release / "model.onnx")
        files = {"model": {"name": "model.onnx", "sha256": sha256(case.base)}}
        (release / "manifest.json").write_text(json.dumps({"settings": {}, "files": files}))
        assert runner.finish(rebuild_job(case))["status"] == "ok"


def test_a_file_that_was_only_compressed_needs_no_base(case: Case, tmp_path: Path) -> None:
    whole = Case(case.base, case.target, tmp_path / "patch")
    make_patch(None, whole.target, whole.patch, ("zlib",))
    with board(whole, tmp_path / "root") as runner:
        assert runner.finish(rebuild_job(whole, base=None))["status"] == "ok"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"base": "../../etc/passwd"}, "bad_request"),
        ({"patch": None}, "bad_request"),
        ({"patch": "0" * 64}, "missing_object"),
        ({"result": "x"}, "bad_request"),
        ({"size": -1}, "bad_request"),
        ({"size": True}, "bad_request"),
        ({"size": "12"}, "bad_request"),
    ],
)
def test_a_job_that_is_not_sound_is_refused(case: Case, tmp_path: Path, fields: dict[str, object], code: str) -> None:
    with board(case, tmp_path / "root") as runner:
        assert runner.error_of("submit", job=rebuild_job(case, **fields))["code"] == code


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"base": "0" * 64}, "missing_object"), ({"size": 5}, "bad_patch"), ({"size": 1 << 60}, "disk_full")],
)
def test_a_job_that_fails_says_why_and_leaves_nothing(
    case: Case, tmp_path: Path, fields: dict[str, object], status: str
) -> None:
    with board(case, tmp_path / "root") as runner:
        before = objects(runner)
        assert runner.finish(rebuild_job(case, **fields))["status"] == status
        assert objects(runner) == before


@pytest.mark.parametrize("point", ["rebuild.apply", "rebuild.before_rename"])
@pytest.mark.parametrize("action", ["kill9", "raise=ENOSPC", "raise=EIO"])
def test_after_a_fault_the_object_is_not_there_and_the_next_try_makes_it(
    case: Case, tmp_path: Path, point: str, action: str
) -> None:
    with board(case, tmp_path / "root", fault=f"{point}:{action}") as runner:
        assert runner.finish(rebuild_job(case))["status"] in {"crash", "oom", "disk_full", "error"}
        assert case.digest not in objects(runner)
    with Runner(tmp_path / "root") as runner:
        assert runner.finish(rebuild_job(case))["status"] == "ok"
        assert objects(runner) == sorted([sha256(case.base), case.digest])


def test_hello_tells_what_this_interpreter_decompresses(tmp_path: Path) -> None:
    with Runner(tmp_path / "root") as runner:
        assert runner.result_of("hello", protocols=[1])["codecs"] == ["zlib", "bz2", "lzma"]
