"""Disks that are really full, of bytes or of inodes, and writes that end short: nothing stays half done."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import faults, links, releases, runtimes, storage
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.memory import Memory
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.agent.web import Web
from edgeopt_runner.journal import RESERVED_BYTES
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.updates import ballast, space
from support.board_updates import CHECKS, act, assert_sound, bring, install, preflight_of, update_now
from support.pull_tree import PROFILE, PullTree
from support.pulling import PullingBoard
from support.releases import put_object


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory, where this login may make one; with the folder of objects."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("this login may not mount a tmpfs")
    try:
        (folder / "objects").mkdir()
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    with mounted(tmp_path / "disk", "size=32m") as folder:
        yield folder


@pytest.fixture
def small_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that keeps 1 MiB free for others, not 64: the disks here have no more."""
    monkeypatch.setattr(space, "RESERVE_BYTES", 1 << 20)


def fill_up(root: Path) -> None:
    """Somebody else takes all bytes that are left."""
    with open(root / "somebody elses", "ab", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


def forked(deed: Callable[[], Any]) -> int:
    """Do something in a child of this process; minus the signal that ended it, or its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            deed()
            os._exit(0)
        finally:
            os._exit(3)
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def test_a_disk_without_the_room_is_refused_before_a_byte_is_sent_with_what_is_needed(small_disk: Path) -> None:
    job = bring(small_disk, b"model one", "1.0.0", 1)
    found = preflight_of(small_disk, job)
    assert (found["action"], found["code"]) == ("refuse", "disk_full")
    assert "the release needs 65.0 MiB (a reserve with it)" in found["reason"]
    assert found["free_bytes"] < found["need_bytes"] or not found["need_bytes"]
    assert update_now(small_disk, job)["code"] == "disk_full"
    assert releases.apps(str(small_disk)) == []


@pytest.mark.usefixtures("small_reserve")
def test_going_back_works_on_a_disk_that_is_really_full(small_disk: Path) -> None:
    install(small_disk, b"model one", "1.0.0", 1)
    calls: list[int] = []

    def check(job: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        if len(calls) < 5:
            return dict(CHECKS["healthy"]()(job))
        fill_up(small_disk)
        return dict(CHECKS["wrong"]()(job))

    found = install(small_disk, b"model two", "1.1.0", 2, check)
    assert found["outcome"] == "rolled_back"
    assert ReleaseStore(str(small_disk), "digits").journal.last()["step"] == "returned"
    assert assert_sound(small_disk)["version"] == "1.0.0"


@pytest.mark.usefixtures("small_reserve")
@pytest.mark.parametrize("point", ["release.switched", "release.health", "release.return"])
def test_what_a_kill_left_is_undone_on_a_disk_without_a_byte_and_without_the_ballast(
    small_disk: Path, point: str
) -> None:
    install(small_disk, b"model one", "1.0.0", 1)
    job = bring(small_disk, b"model two", "1.1.0", 2)

    def killed() -> None:
        faults._faults = faults.parse(f"{point}:kill9")
        act("update", small_disk, job, CHECKS["sick_after"]())

    assert forked(killed) == -signal.SIGKILL
    (small_disk / ballast.NAME).unlink()
    fill_up(small_disk)
    assert storage.free_bytes(str(small_disk)) == 0
    assert assert_sound(small_disk)["version"] == "1.0.0"
    assert ReleaseStore(str(small_disk), "digits").journal.last()["step"] == "returned"
    (small_disk / "somebody elses").unlink()
    assert update_now(small_disk, job)["outcome"] == "committed"
    assert_sound(small_disk)


@pytest.mark.usefixtures("small_reserve")
def test_a_board_that_pulls_gives_up_spare_releases_for_room_as_one_that_is_sent_to(
    small_disk: Path, tmp_path: Path
) -> None:
    tree = PullTree(tmp_path / "tree")
    manifest = tree.release("digits", "2.0", 9, os.urandom(2 << 20), b"golden")
    tree.publish()
    root = PullingBoard(small_disk, tree, "").root
    for number in range(1, 5):
        assert install(root, os.urandom(2 << 20), f"1.{number}", number)["outcome"] == "committed"
    board, store = Board(str(root)), ReleaseStore(str(root), "digits")
    board.refresh(Tree(f"file://{tree.folder}", Web(), Patience("board", 1)), Memory(str(root)))
    put_object(root, (tree.folder / f"targets/releases/digits/{manifest}.2.0.json").read_bytes())
    (small_disk / "somebody elses").write_bytes(bytes(storage.free_bytes(str(root)) - (3 << 20)))
    assert store.spare() == [2]
    order = {"app": "digits", "manifest": manifest, "target": "releases/digits/2.0.json", "profile": PROFILE}
    found = board.preflight({**order, "fence": 0})
    assert (found["action"], store.spare()) == ("update", [])
    assert found["need_bytes"] <= found["free_bytes"]


@pytest.mark.usefixtures("small_reserve")
def test_a_disk_without_hard_links_needs_the_room_twice(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 9 << 20
    job = bring(small_disk, os.urandom(size), "1.0.0", 1)
    assert preflight_of(small_disk, job)["action"] == "update"
    (small_disk / "somebody elses").write_bytes(bytes(storage.free_bytes(str(small_disk)) - size))
    assert preflight_of(small_disk, job)["action"] == "update", "nine more fit, and two are needed"

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    assert not links.can_link(str(small_disk / "objects" / job["manifest"]))
    assert preflight_of(small_disk, job)["code"] == "disk_full"
    assert update_now(small_disk, job)["code"] == "disk_full"
    assert not list(small_disk.glob("apps/*/releases/*")), "it was refused before a byte was copied"
    (small_disk / "somebody elses").unlink()
    assert update_now(small_disk, job)["outcome"] == "committed"
    assert_sound(small_disk)


def use_up_inodes(root: Path, left: int) -> None:
    """Somebody else makes files until only so many can be made."""
    folder = root / "somebody elses"
    folder.mkdir()
    for number in range(max(0, os.statvfs(root).f_favail - left)):
        (folder / str(number)).touch()


@pytest.mark.usefixtures("small_reserve")
def test_a_disk_without_inodes_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=32m,nr_inodes=200") as root:
        install(root, b"model one", "1.0.0", 1)
        job = bring(root, b"model two", "1.1.0", 2)
        use_up_inodes(root, left=space.LEAST_INODES - 2)
        found = preflight_of(root, job)
        assert (found["action"], found["code"]) == ("refuse", "no_inodes")
        assert "62 inodes are free, 64 are needed" in found["reason"]
        assert update_now(root, job)["code"] == "no_inodes"
        assert assert_sound(root)["version"] == "1.0.0"


@pytest.mark.usefixtures("small_reserve")
@pytest.mark.parametrize("check", ["healthy", "sick_after"])
def test_inodes_that_run_out_at_any_step_leave_a_sound_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    monkeypatch.setattr(space, "LEAST_INODES", 0)
    ends = set()
    for left in range(12):
        with mounted(tmp_path / f"disk{left}", "size=32m,nr_inodes=100") as root:
            install(root, b"model one", "1.0.0", 1)
            job = bring(root, b"model two", "1.1.0", 2)
            use_up_inodes(root, left)
            found = act("update", root, job, CHECKS[check]())
            ends.add((found["status"], found["update"]["outcome"]))
            kept = "1.1.0" if found["update"]["outcome"] == "committed" else "1.0.0"
            assert assert_sound(root)["version"] == kept, f"{left} inodes were left"
            subprocess.run(["rm", "-r", str(root / "somebody elses")], check=True)
            assert update_now(root, job)["outcome"] in ("committed", "nothing")
            assert_sound(root)
    last = ("ok", "committed") if check == "healthy" else ("health_failed", "rolled_back")
    assert ends == {("disk_full", "aborted"), last}


@pytest.mark.parametrize("check", ["healthy", "sick_after"])
def test_writes_that_end_short_at_any_length_leave_a_sound_board(tmp_path: Path, check: str) -> None:
    """The kernel writes up to a limit and then refuses: a quota, a signal or a file system's own end look the same."""
    install(tmp_path, b"model one", "1.0.0", 1)
    sizes = [0, 1, 100, 400, 700, 1000, 1500, 2500, 4000, 6000, RESERVED_BYTES - 1, RESERVED_BYTES, 1 << 20]
    ends = []
    for counter, size in enumerate(sizes, 2):
        job = bring(tmp_path, b"model %d" % counter, f"1.{counter}.0", counter)

        def limited(size: int = size, job: dict[str, Any] = job) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            with contextlib.suppress(OSError):
                if act("update", tmp_path, job, CHECKS[check]())["update"]["outcome"] == "committed":
                    os._exit(10)

        before = assert_sound(tmp_path)["version"]
        ends.append(forked(limited))
        assert assert_sound(tmp_path)["version"] == (job_version(job) if ends[-1] == 10 else before), size
        assert update_now(tmp_path, job)["outcome"] in ("committed", "nothing"), size
        assert_sound(tmp_path)
    assert ends[0] == 0
    assert ends[-1] == (10 if check == "healthy" else 0)


def job_version(job: dict[str, Any]) -> str:
    return str(job["target"].split("/")[-1].removesuffix(".json"))
