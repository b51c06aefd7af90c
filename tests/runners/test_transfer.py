"""Objects arrive whole or not at all: resumed, verified, and refused before the disk is full."""

import hashlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edgeopt_runner.protocol import frames
from support.runner import Runner

DATA = random.Random(1).randbytes(3 << 20)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def runner(tmp_path: Path):
    with Runner(tmp_path / "root") as started:
        started.result_of("hello", protocols=[1])
        yield started


def objects(runner: Runner) -> list[str]:
    return sorted(path.name for path in (runner.root / "objects").iterdir())


def start_half(runner: Runner, count: int) -> subprocess.Popen[bytes]:
    """A receiver that has got `count` bytes and waits for more."""
    process = runner.start("receive", "--sha256", DIGEST, "--size", str(len(DATA)))
    process.stdin.write(DATA[:count])
    process.stdin.flush()
    part, deadline = runner.root / "objects" / f"{DIGEST}.part", time.monotonic() + 10
    while not part.exists() or part.stat().st_size < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def finish(process: subprocess.Popen[bytes]) -> bytes:
    return process.communicate(timeout=20)[0]


def test_an_object_arrives_bears_its_name_and_comes_back_the_same(runner: Runner) -> None:
    assert runner.receive(DIGEST, len(DATA), DATA) == [{"have": False, "offset": 0}, {"ok": True}]
    assert objects(runner) == [DIGEST]
    assert runner.result_of("have", digests=[DIGEST, "0" * 64]) == {"have": [DIGEST], "partial": {}}
    assert finish(runner.start("send", "--sha256", DIGEST)).endswith(b'{"size":%d}\n' % len(DATA) + DATA)


def test_what_is_there_is_not_sent_again(runner: Runner) -> None:
    runner.receive(DIGEST, len(DATA), DATA)
    assert runner.receive(DIGEST, len(DATA), b"") == [{"have": True, "offset": len(DATA)}, {"ok": True}]


def test_an_empty_object_is_an_object(runner: Runner) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    assert runner.receive(empty, 0, b"")[-1] == {"ok": True}
    assert objects(runner) == [empty]


def test_a_cut_push_is_kept_and_resumes_where_it_stopped(runner: Runner) -> None:
    answer = finish(start_half(runner, 1 << 20))
    assert b'"truncated"' in answer
    assert objects(runner) == [f"{DIGEST}.part"]
    assert runner.result_of("have", digests=[DIGEST]) == {"have": [], "partial": {DIGEST: 1 << 20}}
    assert runner.receive(DIGEST, len(DATA), DATA) == [{"have": False, "offset": 1 << 20}, {"ok": True}]
    assert (runner.root / "objects" / DIGEST).read_bytes() == DATA


def test_a_killed_receiver_leaves_nothing_in_the_way(runner: Runner) -> None:
    process = start_half(runner, 1 << 20)
    process.kill()
    finish(process)
    assert runner.receive(DIGEST, len(DATA), DATA)[0]["offset"] == 1 << 20
    assert objects(runner) == [DIGEST]


def test_a_receiver_on_a_dead_link_is_taken_over(runner: Runner) -> None:
    stalled = start_half(runner, 1 << 20)
    assert runner.receive(DIGEST, len(DATA), DATA) == [{"have": False, "offset": 1 << 20}, {"ok": True}]
    assert stalled.wait(timeout=10) == -signal.SIGKILL
    finish(stalled)


def test_a_receiver_whose_disk_is_slow_to_keep_the_last_bytes_is_left_alone(tmp_path: Path) -> None:
    with Runner(tmp_path / "root", fault="transfer.before_rename:sleep=5") as runner:
        runner.result_of("hello", protocols=[1])
        first = start_half(runner, len(DATA))
        answers = runner.receive(DIGEST, len(DATA), DATA)
        assert b'"ok":true' in finish(first)
        assert first.returncode == 0, "the second receiver killed the first, which had all bytes"
    assert answers == [{"have": True, "offset": len(DATA)}, {"ok": True}]


def test_a_second_host_that_pushes_the_same_gets_the_first_ones_bytes(runner: Runner) -> None:
    first = start_half(runner, 1 << 20)
    second = runner.start("receive", "--sha256", DIGEST, "--size", str(len(DATA)))
    time.sleep(0.3)
    first.stdin.write(DATA[1 << 20 :])
    first.stdin.close()
    assert b'"have":true' in second.stdout.read()
    for process in (first, second):
        process.wait(timeout=10)
        process.stdout.close()
    second.stdin.close()


def test_wrong_bytes_are_refused_and_not_kept(runner: Runner) -> None:
    wrong = b"x" + DATA[1:]
    answers = runner.receive(DIGEST, len(DATA), wrong)
    assert answers[1]["error"]["code"] == "digest_mismatch"
    assert hashlib.sha256(wrong).hexdigest() in answers[1]["error"]["message"]
    assert objects(runner) == []


def test_zeros_that_a_power_cut_left_are_found_out(runner: Runner) -> None:
    (runner.root / "objects" / f"{DIGEST}.part").write_bytes(bytes(4096))
    assert runner.receive(DIGEST, len(DATA), DATA)[1]["error"]["code"] == "digest_mismatch"
    assert runner.receive(DIGEST, len(DATA), DATA)[1] == {"ok": True}


def test_a_part_that_is_too_long_is_started_over(runner: Runner) -> None:
    (runner.root / "objects" / f"{DIGEST}.part").write_bytes(DATA + b"more")
    assert runner.receive(DIGEST, len(DATA), DATA) == [{"have": False, "offset": 0}, {"ok": True}]


def test_death_between_the_last_byte_and_the_name_costs_no_byte(tmp_path: Path) -> None:
    with Runner(tmp_path / "root", fault=f"transfer.before_rename:kill9@{DIGEST[:8]}") as runner:
        assert runner.receive(DIGEST, len(DATA), DATA) == [{"have": False, "offset": 0}]
    with Runner(tmp_path / "root") as runner:
        assert DIGEST not in objects(runner)
        assert runner.receive(DIGEST, len(DATA), DATA) == [{"have": False, "offset": len(DATA)}, {"ok": True}]


@pytest.mark.parametrize("digest", ["../../etc/passwd", "ABC", "a" * 63, "a" * 64 + "\n"])
def test_a_digest_that_is_none_never_becomes_a_path(runner: Runner, digest: str) -> None:
    assert runner.receive(digest, 1, b"x")[0]["error"]["code"] == "bad_request"
    assert objects(runner) == []


def test_an_object_that_is_not_there_cannot_be_fetched(runner: Runner) -> None:
    assert b'"missing_object"' in finish(runner.start("send", "--sha256", "0" * 64))


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs root and the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_named_before_a_byte_is_sent(small_disk: Path, tmp_path: Path) -> None:
    with Runner(small_disk / "root", lock=tmp_path / "lock") as runner:
        answers = runner.receive("0" * 64, 20 << 20, b"")
        assert answers[0]["error"]["code"] == "disk_full"
        assert str((20 << 20) + (16 << 20)) in answers[0]["error"]["message"]
        assert runner.receive(DIGEST, len(DATA), DATA)[-1] == {"ok": True}


def test_a_disk_that_fills_up_on_the_way_is_named_and_nothing_half_gets_a_name(
    small_disk: Path, tmp_path: Path
) -> None:
    data = bytes(6 << 20)
    digest = hashlib.sha256(data).hexdigest()
    with Runner(small_disk / "root", lock=tmp_path / "lock") as runner:
        process = runner.start("receive", "--sha256", digest, "--size", str(len(data)))
        process.stdin.write(data[: 1 << 20])
        process.stdin.flush()
        while not (runner.root / "objects" / f"{digest}.part").exists():
            time.sleep(0.01)
        (small_disk / "ballast").write_bytes(bytes(20 << 20))
        assert b'"disk_full"' in process.communicate(data[1 << 20 :], timeout=20)[0]
        assert digest not in objects(runner)
        (small_disk / "ballast").unlink()
        assert runner.receive(digest, len(data), data)[-1] == {"ok": True}


def offer(runner: Runner, digest: str, data: bytes, size: int | None = None) -> dict:
    """Send an object within the conversation; the second answer."""
    first = runner.result_of("receive", sha256=digest, size=len(data) if size is None else size)
    assert first["have"] is False
    runner.send_raw(data[first["offset"] :])
    return runner.answer()


def test_an_object_arrives_within_a_conversation_that_goes_on(runner: Runner) -> None:
    assert offer(runner, DIGEST, DATA)["result"] == {"ok": True}
    assert (runner.root / "objects" / DIGEST).read_bytes() == DATA
    assert runner.result_of("receive", sha256=DIGEST, size=len(DATA)) == {"have": True, "offset": len(DATA)}
    assert runner.answer()["result"] == {"ok": True}
    assert runner.error_of("receive", sha256="../x", size=1)["code"] == "bad_request"
    assert runner.error_of("receive", sha256=DIGEST, size=-1)["code"] == "bad_request"
    assert runner.result_of("have", digests=[DIGEST])["have"] == [DIGEST]


def test_a_conversation_cut_within_an_object_keeps_what_came(runner: Runner) -> None:
    runner.result_of("receive", sha256=DIGEST, size=len(DATA))
    runner.send_raw(DATA[: 1 << 20])
    assert runner.hang_up() == 1
    assert runner.answer()["error"]["code"] == "truncated"
    with Runner(runner.root) as again:
        assert again.result_of("receive", sha256=DIGEST, size=len(DATA))["offset"] == 1 << 20
        again.send_raw(DATA[1 << 20 :])
        assert again.answer()["ok"]
    assert objects(runner) == [DIGEST]


def test_requests_inside_an_object_are_bytes_and_nothing_is_asked_behind_a_damaged_one(runner: Runner) -> None:
    evil = frames.encode({"id": 1, "verb": "clean", "params": {"force": True}}) * 100
    assert offer(runner, hashlib.sha256(evil).hexdigest(), evil)["ok"]
    answer = offer(runner, "a" * 64, evil + b"more", size=10)
    assert answer["error"]["code"] == "digest_mismatch"
    assert runner.answer() is None, "what follows would be taken for requests"
    assert runner.root.exists()
