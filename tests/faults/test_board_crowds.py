"""Kills at any moment, and many at once: installers, collectors and applications that read."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import cleanup, held_release, runtimes
from edgeopt_runner.release_store import ReleaseStore
from support.board_updates import CHECKS, act, assert_sound, bring, install, state_of, update_now
from support.releases import put_object


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


@pytest.fixture
def board(tmp_path: Path) -> Path:
    (tmp_path / "objects").mkdir()
    install(tmp_path, b"model one", "1.0.0", 1)
    return tmp_path


def child(deed: Callable[[], Any]) -> int:
    """Do something in a child of this process; its pid."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            deed()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def kill_at_random(board: Path, times: int, seed: int) -> None:
    """Update, go back and collect, killed at a random moment each time."""
    chance = random.Random(seed)
    job = bring(board, b"model 2", "1.2.0", 2)
    started = time.monotonic()
    assert update_now(board, job)["outcome"] == "committed"
    usual = time.monotonic() - started
    version = 2
    for turn in range(times):
        version += 1
        kind, check = chance.choice([("update", "healthy"), ("update", "sick_after"), ("return", "healthy")])
        content = b"model %d" % (version % 5)
        job = bring(board, content, f"1.{version}.0", version, job={"fence": turn})
        pid = child(lambda job=job, kind=kind, check=check: act(kind, board, job, CHECKS[check]()))  # type: ignore[misc]
        time.sleep(chance.uniform(0, 1.1 * usual))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert_sound(board)
    assert install(board, b"model last", "2.0.0", version + 1, job={"fence": times})["outcome"] == "committed"
    assert len(os.listdir(board / "apps/digits/releases")) <= 6
    assert_sound(board)


def test_kill_at_forty_random_moments(board: Path) -> None:
    kill_at_random(board, 40, 1)


@pytest.mark.long
def test_kill_at_five_hundred_random_moments(board: Path) -> None:
    kill_at_random(board, 500, 2)


def read_whole(board: Path) -> None:
    """What an application does: open what is active, once, and use all of it."""
    held = held_release.hold(str(board / "apps/digits/current"))
    try:
        held.file("model")
        held.file("golden")
    finally:
        held.close()


def crowd(board: Path, seconds: float) -> None:
    """Two installers, a collector, a reporter and readers at once."""
    ends = time.monotonic() + seconds

    def installer(first: int) -> None:
        version = first
        while time.monotonic() < ends:
            version += 2
            job = bring(board, b"model %d" % (version % 7), f"1.{version}.0", version)
            outcome = update_now(board, job)
            codes = ("", "busy", "older", "missing_object", "penalised")
            assert outcome["code"] in codes, outcome

    def until_end(deed: Callable[[], Any], pause_seconds: float = 0.002) -> Callable[[], None]:
        def repeat() -> None:
            while time.monotonic() < ends:
                deed()
                time.sleep(pause_seconds)

        return repeat

    deeds: list[Callable[[], Any]] = [lambda: installer(2), lambda: installer(3)]
    deeds += [until_end(lambda: cleanup.collect_garbage(str(board), [], tight=True), 0.3)]
    deeds += [until_end(lambda: state_of(board), 0.05)]
    deeds += [until_end(lambda: read_whole(board))] * 4
    pids = [child(deed) for deed in deeds]
    codes = [os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * len(deeds)
    assert assert_sound(board)["counter"] > 1


def test_a_collector_is_not_stopped_by_an_update_that_was_faster(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unwanted = cleanup._unwanted_objects

    def taken_away(root: str, kept: set[str]) -> Iterator[str]:
        for path in list(unwanted(root, kept)):
            os.unlink(path)
            yield path

    monkeypatch.setattr(cleanup, "_unwanted_objects", taken_away)
    put_object(board, b"nobody wants this")
    assert cleanup.collectable_bytes(str(board), []) == 0
    put_object(board, b"nor that")
    assert cleanup.collect_garbage(str(board), [])["freed_bytes"] == 0
    assert_sound(board)


def test_files_that_nobody_lived_to_put_in_place_go(board: Path) -> None:
    journal = board / "apps/digits/journal.jsonl.4711.tmp"
    others = [
        board / name for name in ("runtimes.json.4711.tmp", "trust/state.json.4711.tmp", "agent/state.json.12.tmp")
    ]
    for path in (journal, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    assert_sound(board)
    assert not journal.exists()
    cleanup.collect_garbage(str(board), [])
    assert all(path.exists() for path in others), "somebody may be about to put them in place"
    for path in others:
        os.utime(path, (0, 0))
    cleanup.collect_garbage(str(board), [])
    assert not any(path.exists() for path in others)


def test_installers_a_collector_and_readers_at_once(board: Path) -> None:
    crowd(board, 3.0)


@pytest.mark.long
def test_installers_a_collector_and_readers_at_once_for_a_minute(board: Path) -> None:
    crowd(board, 60.0)


def test_an_application_keeps_its_release_through_three_updates(board: Path) -> None:
    held = held_release.hold(str(board / "apps/digits/current"))
    install(board, b"model 9", "1.0.1", 9, job={"golden": True})
    for version in range(10, 15):
        install(board, b"model %d" % version, f"1.{version}.0", version)
        assert state_of(board)["running"] == [held.manifest["files"]["model"]["sha256"]]
    assert held.file("model")
    assert held.number in ReleaseStore(str(board), "digits").numbers()
    held.close()
    install(board, b"model 20", "1.20.0", 20)
    report = state_of(board)
    assert report["running"] == []
    assert 1 not in ReleaseStore(str(board), "digits").numbers()


def test_two_apps_that_share_a_file_do_not_take_it_from_each_other(board: Path) -> None:
    other: dict[str, Any] = {"app": "faces"}
    assert install(board, b"model one", "1.0.0", 1, **other)["outcome"] == "committed"
    for version in range(2, 7):
        install(board, b"model %d" % version, f"1.{version}.0", version, job={"golden": version == 2})
    cleanup.collect_garbage(str(board), [], tight=True)
    store = ReleaseStore(str(board), "faces")
    assert store.fit(store.pointer("current"))
