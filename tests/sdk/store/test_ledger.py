"""The ledger on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from edgeopt.core.budget import Budget
from edgeopt.core.deployment import Deployment
from edgeopt.core.device import LOCAL, DeviceFacts
from edgeopt.core.model import Artifact, Model
from edgeopt.core.profile import Settings
from edgeopt.core.run import DataSummary, RunRecord
from edgeopt.core.tensor import Signature
from edgeopt.core.variant import Rejection
from edgeopt.core.work import Machine, Observation, Task, Work
from edgeopt.errors import StoreError, UsageError
from edgeopt.selection.select import select
from edgeopt.store.database import Database
from edgeopt.store.ledger import Ledger
from edgeopt.store.tables import SCHEMA_VERSION
from support.measurements import candidate, digest, latency, measurement, variant
from support.python_children import start_python


def record(run_id: str, state: str = "done") -> RunRecord:
    """A run with a selection in it."""
    facts = DeviceFacts(
        "board", "x86_64", 64, "cpu", ("avx2",), 2, 2, 1 << 32, 1 << 31, 1 << 33, "Linux", "6", "glibc 2.36", "3.11",
        "performance", "", None, "boot", (), "fingerprint",
    )  # fmt: skip
    chosen = select([candidate("original", 2.0), candidate("int8", 1.0)], Budget(), noise=0.02)
    model = Model("net", Artifact(digest("net"), 10, "onnx"), Signature((), ()), 17, 8, "net.onnx")
    data = DataSummary("d.npz", digest("data"), 64, 1000, "top1", True, False, 0)
    variants = (variant("original"), variant("int8"))
    return RunRecord(
        run_id, "edgeopt deploy net.onnx", state, 100.0, 160.0, model, LOCAL, facts, "x86", data, variants,
        (Rejection("int4", "parity", "cosine 0.4"),), chosen, versions={"onnx": "1.19"}, notes=("two reused",),
    )  # fmt: skip


def test_a_run_comes_back_as_it_was_saved_and_is_listed(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.start_run("r1", "key", "edgeopt deploy net.onnx", started_at=100.0)
        ledger.save_run(record("r1", "running"))
        ledger.save_run(record("r1"))
    with Ledger(ledger_url) as ledger:
        assert ledger.run("r1") == record("r1")
        (summary,) = ledger.runs()
    assert (summary.model, summary.device, summary.winner) == ("net", "local", "int8 / 1 thread")
    assert (summary.state, summary.started_at, summary.finished_at) == ("done", 100.0, 160.0)


def test_runs_are_listed_newest_first_up_to_the_limit(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        for number in range(4):
            ledger.start_run(f"r{number}", "key", "command", started_at=float(number))
        assert [summary.run_id for summary in ledger.runs(limit=3)] == ["r3", "r2", "r1"]


def test_runs_that_are_not_there_are_named(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.start_run("r1", "key", "command", started_at=1.0)
        with pytest.raises(StoreError, match="run 'r1' ended before anything was known"):
            ledger.run("r1")
        with pytest.raises(StoreError, match=r"run 'nope' is not in the ledger\. See `edgeopt runs`"):
            ledger.run("nope")
        with pytest.raises(StoreError, match="run 'nope' was never started"):
            ledger.save_run(record("nope"))


def test_variants_and_rejections_are_reused_on_their_exact_key_only(ledger_url: str) -> None:
    refused = Rejection("int4", "parity", "cosine 0.4", {"layer": "conv1"})
    with Ledger(ledger_url) as ledger:
        ledger.remember_variant("k1", variant("int8"))
        ledger.remember_variant("k2", refused)
        assert (ledger.variant("k1"), ledger.variant("k2"), ledger.variant("k3")) == (variant("int8"), refused, None)
        ledger.remember_variant("k1", refused)
        assert ledger.variant("k1") == refused
        ledger.remember_variant("k1", variant("int8"))
        assert ledger.referenced_digests() == {digest("int8"), digest("source")}


def test_every_launch_of_a_measurement_is_kept_with_its_raw_samples(ledger_url: str) -> None:
    launches = {number: measurement("int8", latency(1.0, seed=number)) for number in (2, 0, 1)}
    with Ledger(ledger_url) as ledger:
        for number, launch in launches.items():
            ledger.remember_measurement("k", number, launch)
        assert ledger.measurements("k") == launches
        assert list(ledger.measurements("k")) == [0, 1, 2]
        ledger.remember_measurement("k", 1, replace(launches[1], flags=("unstable",)))
        assert ledger.measurements("k")[1].flags == ("unstable",)
        assert ledger.measurements("other") == {}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_never_enters(ledger_url: str, number: float) -> None:
    hidden = measurement("int8", latency(1.0), evidence={"before": {"temperature_celsius": [1.0, number]}})
    with Ledger(ledger_url) as ledger:
        with pytest.raises(StoreError, match="Measurement holds a number that is NaN or infinite"):
            ledger.remember_measurement("k", 0, hidden)
        with pytest.raises(StoreError, match="NaN or infinite"):
            ledger.remember_device_noise("board", number)
        assert ledger.measurements("k") == {}
        assert ledger.device_noise("board") is None


def test_noise_belongs_to_a_device(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.remember_device_noise("board", 0.02)
        ledger.remember_device_noise("board", 0.03)
        assert (ledger.device_noise("board"), ledger.device_noise("other")) == (0.03, None)


def test_what_was_seen_on_boards_is_kept_by_key_and_of_too_much_a_part_is_read(ledger_url: str) -> None:
    task = Task(Work(10, 20, 0, 30, 40, {"Conv": 2}), Settings(), Machine("board", "x86_64", ("avx2",), 2))
    seen = [Observation("net", f"file {number}", task, 100.0 + number) for number in range(5)]
    with Ledger(ledger_url) as ledger:
        assert ledger.observations() == ()
        for number, one in enumerate(seen):
            ledger.remember_observation(f"k{number}", one)
        ledger.remember_observation("k4", replace(seen[4], latency_ns=7.0))
        with pytest.raises(StoreError, match="NaN or infinite"):
            ledger.remember_observation("k5", replace(seen[0], latency_ns=float("inf")))
    with Ledger(ledger_url) as ledger:
        assert ledger.observations() == (*seen[:4], replace(seen[4], latency_ns=7.0))
        assert ledger.observations(limit=2) == tuple(seen[:2])


def test_deployments_are_listed_by_device_newest_first(ledger_url: str) -> None:
    first = Deployment("net", "local", 1, None, digest("int8"), Settings(), True)
    second = replace(first, release=2, previous=1)
    with Ledger(ledger_url) as ledger:
        ledger.start_run("r1", "key", "command", started_at=1.0)
        for deployment in (first, second, replace(first, device="pi")):
            ledger.remember_deployment("r1", deployment)
        assert ledger.deployments("local") == (second, first)
        with pytest.raises(StoreError):
            ledger.remember_deployment("never-started", first)


_START = """
import os, time
from edgeopt.store.ledger import Ledger
ledger = Ledger(sys.argv[1])
ledger.start_run(sys.argv[2], "key", "command", started_at=float(sys.argv[3]))
print("started", flush=True)
if len(sys.argv) == 4:
    os._exit(1)
time.sleep(60)
"""


def test_a_killed_run_is_taken_over_once_and_a_living_one_is_left_alone(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        assert ledger.find_resumable("key") is None
        start_python(_START, ledger_url, "dead", "1").communicate(timeout=60)
        living = start_python(_START, ledger_url, "living", "2", "stay")
        try:
            assert living.stdout
            assert living.stdout.readline() == "started\n"
            assert ledger.find_resumable("other") is None
            found = ledger.find_resumable("key")
            assert found is not None
            assert found.run_id == "dead"
        finally:
            living.kill()
            living.communicate()
        found = ledger.find_resumable("key")
        assert found is not None
        assert found.run_id == "living"
        for name in ("dead", "living"):
            ledger.save_run(record(name))
        assert ledger.find_resumable("key") is None


def test_a_ledger_of_a_newer_edgeopt_is_left_alone(ledger_url: str) -> None:
    database = Database(ledger_url)
    with database.writing() as connection:
        connection.execute(text(f"UPDATE edgeopt_schema SET version = {SCHEMA_VERSION + 1}"))
    database.close()
    with pytest.raises(StoreError, match=rf"has schema {SCHEMA_VERSION + 1}; this edgeopt knows .* Update edgeopt"):
        Ledger(ledger_url)


def test_what_cannot_be_decoded_any_more_counts_as_unknown(ledger_url: str) -> None:
    with Ledger(ledger_url) as ledger:
        ledger.remember_variant("k", variant("int8"))
        ledger.remember_measurement("k", 0, measurement("int8", None))
    database = Database(ledger_url)
    with database.writing() as connection:
        connection.execute(text("UPDATE variants SET document = '{\"name\": 3}'"))
        connection.execute(text("UPDATE measurements SET document = 'cut'"))
    database.close()
    with Ledger(ledger_url) as ledger:
        assert ledger.variant("k") is None
        assert ledger.measurements("k") == {}


_WRITE = """
from edgeopt.store.ledger import Ledger
from support.measurements import latency, measurement
launch = measurement("int8", latency(1.0))
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    ledger.remember_measurement(sys.argv[2], number, launch)
    print(number, flush=True)
"""


def test_a_writer_killed_in_a_loop_loses_nothing_that_it_reported(ledger_url: str) -> None:
    launch = measurement("int8", latency(1.0))
    for attempt, delay in enumerate((0.05, 0.15, 0.3)):
        child = start_python(_WRITE, ledger_url, f"k{attempt}", "100000")
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        time.sleep(delay)
        child.kill()
        lines = child.communicate()[0].split("\n")[:-1]
        with Ledger(ledger_url) as ledger:
            kept = ledger.measurements(f"k{attempt}")
        assert set(kept) >= {int(line) for line in lines}
        assert all(found == launch for found in kept.values())


_OPEN_TOGETHER = """
import time
from pathlib import Path
from edgeopt.store.ledger import Ledger
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
ledger = Ledger(sys.argv[1])
for number in range(20):
    ledger.start_run(f"{sys.argv[3]}-{number}", sys.argv[3], "command", started_at=0.0)
    assert ledger.find_resumable(sys.argv[3])
"""


def test_a_fresh_ledger_is_opened_and_written_by_several_processes_at_once(ledger_url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    children = [start_python(_OPEN_TOGETHER, ledger_url, str(gate), f"k{number}") for number in range(4)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    gate.touch()
    for child in children:
        _, problems = child.communicate(timeout=120)
        assert child.returncode == 0, problems
    with Ledger(ledger_url) as ledger:
        assert len(ledger.runs(limit=1000)) == 80


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "not a url", ""])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"Give sqlite:////path/to/file or postgresql://user@host/name\."):
        Ledger(url)


def test_a_password_is_never_shown() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=r"user:\*\*\*@127\.0\.0\.1:1/name cannot be used") as caught:
        Ledger("postgresql://user:secret@127.0.0.1:1/name")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        Ledger(path)
    assert path.read_text() == "not a database\n" * 100


def test_sqlite_syncs_every_commit_into_a_write_ahead_log(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.db")
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    database.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make .*file/deeper for the ledger: Not a directory"):
        Ledger(tmp_path / "file" / "deeper" / "ledger.db")
    assert os.listdir(tmp_path) == ["file"]
