"""The job that rebuilds an object: on a real runner, where its base may lie, what is refused, killed at its points."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.deltas import make_patch
from edgeopt_runner import faults, release_manifest
from support.deltas import sha256
from support.patching import Case, make_case
from support.runner import Runner, job


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), layers=2, count=5000)


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
        files = {"model": {"name": "model.onnx", "sha256": sha256(case.base)}, "golden": {"name": "golden.npz"}}
        (release / "manifest.json").write_text(json.dumps(release_manifest.sealed({"settings": {}, "files": files})))
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


@pytest.mark.parametrize("point", [name for name in faults.POINTS if name.startswith("rebuild.")])
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
