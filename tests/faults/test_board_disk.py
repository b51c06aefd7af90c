"""Disks that are full, fail, or changed a bit: at every write of an update, one after the other."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import runtimes, transaction
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.updates import ballast
from support.board_updates import (
    CHECKS,
    act,
    assert_sound,
    bring,
    install,
    state_of,
    update_now,
)
from support.failing_disk import failing


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


@pytest.fixture(scope="module")
def template(workshop: Path) -> Iterator[Path]:
    """A board that runs 1.1.0, ran 1.0.0 and has 1.2.0 sent to it."""
    patch = pytest.MonkeyPatch()
    patch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])
    root = workshop / "template"
    (root / "objects").mkdir(parents=True)
    install(root, b"model one", "1.0.0", 1)
    install(root, b"model two", "1.1.0", 2)
    order(root)
    yield root
    patch.undo()


def order(root: Path) -> dict[str, Any]:
    return bring(root, b"model three", "1.2.0", 3, job={"fence": 5})


def fresh(template: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder, symlinks=True, copy_function=copy)
    return folder


def copy(source: str, destination: str) -> None:
    """Copy a file; the ballast, which nobody writes into, gets a second name."""
    (os.link if os.path.basename(source) == ballast.NAME else shutil.copyfile)(source, destination)


def fault(root: Path, check: str, fails: Any) -> tuple[dict[str, Any] | None, int]:
    """Update on a failing disk: the result (`None` where even that failed) and how many calls there were."""
    job = order(root)
    with failing(root, fails) as disk:
        try:
            found = act("update", root, job, CHECKS[check]())["update"]
        except OSError:
            found = None
    return found, disk.calls


def at(number: int, code: int) -> Any:
    def fails(call: int, where: str) -> None:
        if call == number:
            raise OSError(code, os.strerror(code), where)

    return fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINTR], ids=["ENOSPC", "EIO", "EINTR"])
@pytest.mark.parametrize("check", ["healthy", "sick_after"])
def test_an_error_at_every_single_call(template: Path, workshop: Path, check: str, code: int) -> None:
    _, calls = fault(fresh(template, workshop / "board"), check, at(0, code))
    assert calls > 40
    ends: dict[str, int] = {}
    for number in range(1, calls + 1):
        root = fresh(template, workshop / "board")
        found, _ = fault(root, check, at(number, code))
        ends[found["outcome"] if found else "none"] = ends.get(found["outcome"] if found else "none", 0) + 1
        report = assert_sound(root)
        assert report["version"] in ("1.1.0", "1.2.0"), f"call {number}"
        if check == "sick_after":
            assert report["version"] == "1.1.0", f"call {number}"
        elif found and found["outcome"] == "committed":
            assert report["version"] == "1.2.0", f"call {number}"
        assert update_now(root, order(root))["outcome"] in ("committed", "nothing"), f"call {number}"
        assert_sound(root)
    assert len(ends) > 1, ends


@pytest.mark.parametrize("check", ["healthy", "sick_after"])
def test_a_disk_that_is_full_from_a_call_on_ends_cleanly_without_anybodys_help(
    template: Path, workshop: Path, check: str
) -> None:
    """Only what the ballast frees may be written then."""
    _, calls = fault(fresh(template, workshop / "board"), check, at(0, 0))
    for number in range(1, calls + 1):
        root = fresh(template, workshop / "board")
        ballast.keep(str(root))

        def fails(call: int, where: str, number: int = number, root: Path = root) -> None:
            changes = not where.startswith(("unlink", "rmdir", "fsync"))
            if call >= number and changes and (root / ballast.NAME).exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)

        found, _ = fault(root, check, fails)
        assert found is not None, f"call {number}"
        last = ReleaseStore(str(root), "digits").journal.last()
        assert last["step"] in transaction.DONE, f"call {number}: {last['step']}"
        report = assert_sound(root)
        assert (report["version"] == "1.2.0") == (found["outcome"] == "committed"), f"call {number}"


def flips(data: bytes) -> Iterator[bytes]:
    """The bytes with one bit changed, at places all over."""
    for place in range(0, len(data), max(1, len(data) // 12)):
        yield data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :]


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "release.json", "manifest.json"])
def test_a_flipped_bit_in_what_runs_leads_back_to_what_is_sound(template: Path, workshop: Path, name: str) -> None:
    data = (template / "apps/digits/releases/2" / name).read_bytes()
    for changed in flips(data):
        root = fresh(template, workshop / "board")
        path = root / "apps/digits/releases/2" / name
        path.unlink()
        path.write_bytes(changed)
        report = state_of(root)
        assert (report["state"], report["verified"]) == ("idle", True)
        assert report["version"] == "1.0.0" or name == "manifest.json"
        assert update_now(root, order(root))["outcome"] == "committed"
        assert_sound(root)


def test_a_flipped_bit_in_the_journal_leaves_a_sound_board(template: Path, workshop: Path) -> None:
    data = (template / "apps/digits/journal.jsonl").read_bytes().rstrip(b"\0")
    for changed in flips(data):
        root = fresh(template, workshop / "board")
        (root / "apps/digits/journal.jsonl").write_bytes(changed)
        assert_sound(root)
        assert update_now(root, order(root))["outcome"] == "committed"
        assert_sound(root)


def test_a_journal_that_is_gone_does_not_open_the_way_back(template: Path, workshop: Path) -> None:
    root = fresh(template, workshop / "board")
    (root / "apps/digits/journal.jsonl").unlink()
    assert install(root, b"model old", "0.9.0", 1)["code"] == "older"
    assert_sound(root)


def test_a_bit_flipped_in_an_object_is_found_before_it_runs_and_it_is_asked_for_again(
    template: Path, workshop: Path
) -> None:
    for name in os.listdir(template / "objects"):
        root = fresh(template, workshop / "board")
        job, path = order(root), root / "objects" / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        found = update_now(root, job)
        assert found["code"] in ("", "missing_object", "digest_mismatch")
        assert assert_sound(root)["version"] in ("1.1.0", "1.2.0")
        assert update_now(root, order(root))["outcome"] in ("committed", "nothing")
