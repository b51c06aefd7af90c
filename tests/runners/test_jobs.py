"""Jobs outlive connections, start once, and their status is never fooled."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from edgeopt_runner.locks import FileLock
from support.runner import OWNER, Runner, job


def read_state(runner: Runner, job_id: str) -> dict:
    return json.loads((runner.root / "jobs" / job_id / "state.json").read_text())


def write_state(runner: Runner, job_id: str, state: dict) -> None:
    (runner.root / "jobs" / job_id / "state.json").write_text(json.dumps(state))


def wait_until_gone(pid: int) -> None:
    """Wait for a process that has been killed; one that merely waits to be reaped is gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives on")


@pytest.fixture
def runner(tmp_path: Path):
    with Runner(tmp_path / "root") as started:
        started.result_of("hello", protocols=[1])
        yield started


@pytest.fixture
def slow(tmp_path: Path):
    """A runner whose workers sleep in phase ``load``."""
    with Runner(tmp_path / "root", fault="work.phase:sleep=30@load") as started:
        yield started


def test_a_job_runs_to_its_end_and_returns_its_identifiers(runner: Runner) -> None:
    document = job()
    result = runner.finish(document)
    assert (result["job_id"], result["nonce"], result["kind"]) == (document["job_id"], document["nonce"], "rehearse")
    assert result["status"] == "ok"


def test_the_same_job_is_not_started_twice(runner: Runner) -> None:
    document = job()
    runner.finish(document)
    folder = runner.root / "jobs" / document["job_id"]
    before = (folder / "state.json").read_bytes()
    assert runner.result_of("submit", job=document)["state"] == "done"
    assert (folder / "state.json").read_bytes() == before


def test_a_job_nobody_submitted_is_unknown(runner: Runner) -> None:
    assert runner.result_of("status", job_id="a" * 32)["state"] == "unknown"
    assert runner.result_of("cancel", job_id="a" * 32) == {"state": "unknown"}


def test_a_job_goes_on_when_the_connection_is_cut(tmp_path: Path) -> None:
    document = job()
    with Runner(tmp_path / "root", fault="work.phase:sleep=1@load") as runner:
        runner.result_of("submit", job=document)
        os.kill(runner.pid, signal.SIGKILL)
    with Runner(tmp_path / "root") as runner:
        assert runner.wait_for(document["job_id"], "done")
        assert runner.result_of("result", job_id=document["job_id"])["status"] == "ok"


def test_status_tells_phase_and_heartbeat_and_result_says_not_yet(slow: Runner) -> None:
    document = job()
    slow.result_of("submit", job=document)
    deadline = time.monotonic() + 10
    while (status := slow.wait_for(document["job_id"], "running"))["phase"] != "load":
        assert time.monotonic() < deadline
    assert status["heartbeat_seconds"] < 10
    error = slow.error_of("result", job_id=document["job_id"])
    assert error["code"] == "not_done"
    assert "load" in error["message"]
    slow.result_of("cancel", job_id=document["job_id"])


def test_cancelling_ends_worker_and_supervisor_and_says_so(slow: Runner) -> None:
    document = job()
    slow.result_of("submit", job=document)
    slow.wait_for(document["job_id"], "running")
    state = read_state(slow, document["job_id"])
    assert slow.result_of("cancel", job_id=document["job_id"]) == {"state": "done"}
    assert slow.result_of("cancel", job_id=document["job_id"]) == {"state": "done"}
    assert slow.result_of("result", job_id=document["job_id"])["status"] == "cancelled"
    wait_until_gone(state["supervisor"]["pid"])


def test_a_supervisor_that_does_not_react_is_killed_with_its_worker(slow: Runner) -> None:
    document = job()
    slow.result_of("submit", job=document)
    while not (state := read_state(slow, document["job_id"])).get("worker"):
        time.sleep(0.02)
    os.kill(state["supervisor"]["pid"], signal.SIGSTOP)
    assert slow.result_of("cancel", job_id=document["job_id"]) == {"state": "done"}
    assert slow.result_of("result", job_id=document["job_id"])["status"] == "cancelled"
    wait_until_gone(state["supervisor"]["pid"])
    wait_until_gone(state["worker"]["pid"])


def test_a_killed_supervisor_means_lost_and_takes_its_worker_along(slow: Runner) -> None:
    document = job()
    slow.result_of("submit", job=document)
    while not (state := read_state(slow, document["job_id"])).get("worker"):
        time.sleep(0.02)
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    wait_until_gone(state["supervisor"]["pid"])
    assert slow.result_of("status", job_id=document["job_id"])["state"] == "lost"
    assert slow.result_of("result", job_id=document["job_id"])["status"] == "lost"
    assert slow.result_of("submit", job=document)["state"] == "lost", "a lost job is not started again by itself"
    wait_until_gone(state["worker"]["pid"])


def test_a_reused_pid_does_not_pass_for_the_supervisor(runner: Runner) -> None:
    document = job()
    runner.finish(document)
    folder = runner.root / "jobs" / document["job_id"]
    (folder / "result.json").unlink()
    state = read_state(runner, document["job_id"])
    state["state"] = "running"
    state["supervisor"]["pid"] = os.getpid()  # lives, but started at another time
    write_state(runner, document["job_id"], state)
    assert runner.result_of("status", job_id=document["job_id"])["state"] == "lost"


def test_another_boot_means_rebooted(runner: Runner) -> None:
    artifact = {"sha256": "a" * 64, "size": 1, "format": "onnx"}
    (runner.root / "objects" / ("a" * 64)).write_bytes(b"x")
    document = job("measure", artifact=artifact, settings={"threads": 1}, plan={"name": "quick"})
    folder = runner.root / "jobs" / document["job_id"]
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(document))
    supervisor = {"pid": os.getpid(), "start_ticks": 1, "boot_id": "before"}
    write_state(runner, document["job_id"], {"state": "running", "phase": "measure", "supervisor": supervisor})
    assert runner.result_of("status", job_id=document["job_id"])["state"] == "rebooted"
    result = runner.result_of("result", job_id=document["job_id"])
    assert result["status"] == result["measurement"]["status"] == "rebooted"
    assert result["measurement"]["variant_digest"] == "a" * 64


def test_a_server_killed_before_the_supervisor_starts_leaves_a_job_that_can_be_submitted_again(tmp_path: Path) -> None:
    document = job()
    with Runner(tmp_path / "root", fault="jobs.submitted:kill9") as runner, pytest.raises(AssertionError, match="away"):
        runner.result_of("submit", job=document)
    with Runner(tmp_path / "root") as runner:
        assert runner.result_of("status", job_id=document["job_id"])["state"] == "unknown"
        assert runner.finish(document)["status"] == "ok"


@pytest.mark.parametrize("point", ["supervisor.before_spawn", "supervisor.after_spawn", "supervisor.before_result"])
def test_a_supervisor_killed_at_any_point_is_lost_and_frees_the_board(tmp_path: Path, point: str) -> None:
    first, second = job(), job()
    with Runner(tmp_path / "root", fault=f"{point}:kill9@{first['job_id']}") as runner:
        runner.result_of("submit", job=first)
        runner.wait_for(first["job_id"], "lost")
        assert runner.finish(second)["status"] == "ok"


def test_a_job_that_two_hosts_submit_at_once_is_taken_up_by_one_and_refused_to_none(runner: Runner) -> None:
    document = job()
    folder = runner.root / "jobs" / document["job_id"]
    folder.mkdir(parents=True)
    other = FileLock(str(folder / "supervisor.lock"))  # the other host's supervisor, which has yet to write its state
    assert other.acquire()
    end = threading.Timer(1.0, other.release)
    end.start()
    assert runner.result_of("submit", job=document)["state"] in ("queued", "running", "done")
    end.join()
    runner.wait_for(document["job_id"], "done")


def test_logs_are_the_tail_without_control_characters(runner: Runner) -> None:
    document = job()
    runner.finish(document)
    log = runner.root / "jobs" / document["job_id"] / "log"
    log.write_bytes(b"first\n" + b"x" * 1000 + b"\n\x1b[2J\x07evil\x9b\n")
    assert runner.result_of("logs", job_id=document["job_id"], bytes=20)["text"].endswith("\n[2Jevil\ufffd\n")
    assert "first" not in runner.result_of("logs", job_id=document["job_id"], bytes=20)["text"]
    assert "first" in runner.result_of("logs", job_id=document["job_id"], bytes=1 << 40)["text"]


def test_two_owners_take_turns_and_the_second_sees_whom_it_waits_for(tmp_path: Path) -> None:
    first, second = job(), job(owner={"owner": "bert", "host": "tower", "reason": "finals"})
    lock = tmp_path / "board"
    with (
        Runner(tmp_path / "a", fault="work.phase:sleep=1.5@load", lock=lock) as one,
        Runner(tmp_path / "b", lock=lock) as two,
    ):
        one.result_of("submit", job=first)
        one.wait_for(first["job_id"], "running")
        two.result_of("submit", job=second)
        waiting = two.wait_for(second["job_id"], "queued")
        deadline = time.monotonic() + 5
        while not (waiting := two.result_of("status", job_id=second["job_id"]))["waiting_for"]:
            assert time.monotonic() < deadline, waiting
        assert waiting["waiting_for"] == "{owner}@{host}: {reason}".format(**OWNER)
        two.wait_for(second["job_id"], "done")
        assert one.result_of("status", job_id=first["job_id"])["state"] == "done", "both had the board at once"
        assert two.result_of("result", job_id=second["job_id"])["status"] == "ok"


def test_a_job_waits_for_anothers_lease_and_runs_when_it_is_given_back(runner: Runner) -> None:
    bert = {"owner": "bert", "host": "tower", "reason": "a long series"}
    assert runner.result_of("lease", seconds=60, **bert)["held"]
    document = job()
    runner.result_of("submit", job=document)
    time.sleep(0.5)
    status = runner.result_of("status", job_id=document["job_id"])
    assert (status["state"], status["waiting_for"]) == ("queued", "bert@tower: a long series")
    assert runner.result_of("unlease", owner="bert", host="tower") == {"released": True}
    runner.wait_for(document["job_id"], "done")


def test_a_queued_job_can_be_cancelled_or_run_out_of_patience(runner: Runner) -> None:
    runner.result_of("lease", owner="bert", host="tower", seconds=60)
    cancelled, impatient = job(), job(limits={"deadline_seconds": {"queue": 0.3}})
    for document in (cancelled, impatient):
        runner.result_of("submit", job=document)
    runner.result_of("cancel", job_id=cancelled["job_id"])
    runner.wait_for(impatient["job_id"], "done")
    assert runner.result_of("result", job_id=cancelled["job_id"])["status"] == "cancelled"
    result = runner.result_of("result", job_id=impatient["job_id"])
    assert result["status"] == "timeout:queue"
    assert "bert@tower" in result["detail"]
