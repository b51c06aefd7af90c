"""Whatever a worker does, its job ends with a result that names it."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeopt import documents
from edgeopt.core.measurement import Measurement
from edgeopt_runner import ends, processes
from edgeopt_runner.board import Board
from edgeopt_runner.guard import GuardedWorker, Limits
from edgeopt_runner.pumps import LogPump
from support.runner import Runner, job

SHA = "a" * 64
PLAN = {"name": "quick", "min_seconds": 1.0, "min_samples": 64, "max_seconds": 15.0}


def run(tmp_path: Path, fault: str, **fields) -> dict:
    with Runner(tmp_path / "root", fault=fault) as runner:
        return runner.finish(job(**fields))


@pytest.mark.parametrize(
    ("action", "status", "detail"),
    [
        ("segfault", "crash", "SIGSEGV"),
        ("signal=SIGABRT", "crash", "SIGABRT"),
        ("signal=SIGBUS", "crash", "SIGBUS"),
        ("signal=SIGFPE", "crash", "SIGFPE"),
        ("signal=SIGILL", "illegal_instruction", "SIGILL"),
        ("kill9", "crash", "SIGKILL"),
        ("exit=3", "crash", "code 3 and no result"),
        ("exit=0", "crash", "exited with code"),
        ("raise=ENOSPC", "disk_full", "No space left"),
        ("raise=EIO", "error", "Input/output error"),
    ],
)
def test_every_death_has_its_name(tmp_path: Path, action: str, status: str, detail: str) -> None:
    result = run(tmp_path, f"work.phase:{action}@load")
    assert result["status"] == status
    assert detail in result["detail"]


def test_a_worker_that_dies_before_its_first_word_is_named_too(tmp_path: Path) -> None:
    assert run(tmp_path, "work.start:segfault")["status"] == "crash"


def test_the_last_line_of_output_is_in_the_detail_of_a_crash(tmp_path: Path) -> None:
    result = run(tmp_path, "work.phase:print=0.001@load,work.phase:exit=7@load")
    assert "last output: noise noise" in result["detail"]


def test_a_phase_that_takes_too_long_is_named(tmp_path: Path) -> None:
    started = time.monotonic()
    result = run(tmp_path, "work.phase:sleep=60@load", limits={"deadline_seconds": {"load": 0.5}})
    assert result["status"] == "timeout:load"
    assert "0.5 s" in result["detail"]
    assert time.monotonic() - started < 50, "the worker was left to sleep to its end"


def test_the_total_deadline_holds_across_phases(tmp_path: Path) -> None:
    result = run(tmp_path, "work.phase:sleep=60@import", limits={"deadline_seconds": {"total": 0.8}})
    assert result["status"] == "timeout:import"


def test_a_worker_over_its_memory_limit_is_stopped(tmp_path: Path) -> None:
    fault = "work.phase:allocate=200@load,work.phase:sleep=60@load"
    result = run(tmp_path, fault, limits={"memory_bytes": 100 << 20})
    assert result["status"] == "memory_guard"
    assert "100 MiB are allowed" in result["detail"]


def test_a_flood_on_stdout_is_capped_and_harms_nothing(tmp_path: Path) -> None:
    document = job()
    with Runner(tmp_path / "root", fault="work.phase:print=20@load") as runner:
        assert runner.finish(document)["status"] == "ok"
        log = runner.root / "jobs" / document["job_id"] / "log"
        assert log.stat().st_size < 300 << 10
        assert b"bytes left out" in log.read_bytes()


def test_a_failed_measure_still_carries_a_measurement_of_the_contract(tmp_path: Path) -> None:
    with Runner(tmp_path / "root", fault="work.start:signal=SIGILL@measure") as runner:
        runner.result_of("hello", protocols=[1])
        (runner.root / "objects" / SHA).write_bytes(b"model")
        settings = {"runtime": "onnxruntime", "threads": 2, "graph_optimisation": "all", "spinning": True}
        artifact = {"sha256": SHA, "size": 5, "format": "onnx"}
        result = runner.finish(job("measure", artifact=artifact, settings=settings, plan=PLAN))
    measurement = documents.decode(Measurement, result["measurement"], where="result")
    assert (measurement.status, measurement.variant_digest) == ("illegal_instruction", SHA)
    assert measurement.settings.threads == 2
    assert measurement.plan.name == "quick"
    assert not measurement.ok


def test_the_worker_is_the_first_that_the_kernel_would_sacrifice(tmp_path: Path) -> None:
    document = job()
    with Runner(tmp_path / "root", fault="work.phase:sleep=30@load") as runner:
        runner.result_of("submit", job=document)
        while runner.wait_for(document["job_id"], "running")["phase"] != "load":
            time.sleep(0.02)
        state = json.loads((runner.root / "jobs" / document["job_id"] / "state.json").read_text())
        assert Path(f"/proc/{state['worker']['pid']}/oom_score_adj").read_text().strip() == "800"
        assert os.getsid(state["worker"]["pid"]) == state["worker"]["pid"]
        runner.result_of("cancel", job_id=document["job_id"])


def test_a_worker_without_its_supervisor_does_not_begin(tmp_path: Path) -> None:
    with Runner(tmp_path / "root") as runner:
        runner.result_of("hello", protocols=[1])
        orphan = runner.start("work", "--job", "a" * 32, "--events-fd", "1", "--parent", "1")
        output, _ = orphan.communicate(timeout=20)
        assert (orphan.returncode, output) == (1, b"")


CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def small_memory():
    """A control group with 96 MiB of memory, version 1 or 2."""
    v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    folder = (Path("/sys/fs/cgroup") if v2 else CGROUP) / f"edgeopt-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(96 << 20))
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield folder
    deadline = time.monotonic() + 10
    while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    folder.rmdir()


def test_the_kernels_oom_killer_is_told_apart_from_a_crash(tmp_path: Path, small_memory: Path) -> None:
    document = job()
    with Runner(tmp_path / "root", fault="work.phase:allocate=300@load") as runner:
        runner.result_of("hello", protocols=[1])
        (small_memory / "cgroup.procs").write_text(str(runner.pid))
        result = runner.finish(document)
    assert result["status"] == "oom"


def test_every_signal_of_the_platform_has_a_name() -> None:
    for number in set(signal.Signals) - {signal.SIGILL}:
        status, detail = ends.name_end(-number, 0, False, "")
        assert status == "crash"
        assert signal.Signals(number).name in detail
    assert ends.name_end(-34, 0, False, "")[0] == "crash"


@pytest.mark.parametrize(
    ("kills", "short", "status"), [(1, False, "oom"), (0, True, "crash"), (None, True, "oom"), (None, False, "crash")]
)
def test_without_the_kernels_counter_short_memory_decides(kills: int | None, short: bool, status: str) -> None:
    assert ends.name_end(-signal.SIGKILL, kills, short, "")[0] == status


def test_results_are_one_line_of_printable_text(tmp_path: Path) -> None:
    from edgeopt_runner.results import result_document

    document = result_document({"kind": "rehearse"}, "error", "a\x1b[2J\nb\x00\tc" + "x" * 5000, {})
    assert document["detail"].startswith("a [2J b cxx")
    assert len(document["detail"]) <= 500
    assert document["detail"].isprintable()


ANNOUNCE = (
    "import os, sys, time; sys.path.insert(0, sys.argv[1]); from edgeopt_runner.protocol import frames;"
    "frames.write(os.fdopen(int(sys.argv[2]), 'wb'), {'event': 'phase', 'phase': 'load'}); time.sleep(60)"
)


def test_no_worker_is_left_behind_when_its_phase_cannot_be_noted(tmp_path: Path) -> None:
    def disk_is_full(phase: str, since: float) -> None:
        raise OSError(28, "No space left on device")

    source = str(Path(ends.__file__).parents[1])
    command = [sys.executable, "-c", ANNOUNCE, source]
    log = str(tmp_path / "log")
    worker = GuardedWorker(lambda events: [*command, str(events)], log, Limits(None, {}), disk_is_full)
    assert processes.alive(worker.identity)
    with pytest.raises(OSError, match="No space"), worker:
        worker.wait(threading.Event())
    assert not processes.alive(worker.identity)


def test_a_log_on_a_full_disk_does_not_stop_the_worker() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    read_end, write_end = os.pipe()
    pump = LogPump(read_end, "/dev/full")
    pump.start()
    with os.fdopen(write_end, "wb") as stream:
        for _ in range(200):
            assert pump.is_alive() or stream.closed
            stream.write(b"noise " * 1000 + b"\nlast words\n")
            stream.flush()
    pump.join(timeout=20)
    assert not pump.is_alive()
    assert pump.last_line == "last words"


@pytest.mark.parametrize(
    ("group", "counter"),
    [("0::/a/b", "/sys/fs/cgroup/a/b/memory.events"), ("7:memory:/", "/sys/fs/cgroup/memory/memory.oom_control")],
)
def test_kills_of_our_own_control_group_are_counted(tmp_path: Path, group: str, counter: str) -> None:
    files = {"/proc/self/cgroup": f"3:cpu:/x\n{group}\n", counter: "oom 9\noom_kill_disable 0\noom_kill 2\n"}
    for name, text in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert ends.oom_kills(Board(str(tmp_path))) == 2
    (tmp_path / "proc" / "vmstat").write_text("pgfault 100\noom_kill 1\n")
    assert ends.oom_kills(Board(str(tmp_path))) == 3


def test_a_kernel_that_does_not_count_kills_says_so(tmp_path: Path) -> None:
    assert ends.oom_kills(Board(str(tmp_path))) is None
