"""Leases have one owner and an end; locks die with their holder."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt_runner import leases, locks
from support.runner import Runner

ANNA = {"owner": "anna", "host": "laptop", "reason": "tuning"}
BERT = {"owner": "bert", "host": "tower", "reason": "finals"}


@pytest.fixture(autouse=True)
def _own_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_LOCK", str(tmp_path / "board.lock"))


def test_the_second_owner_is_refused_and_sees_the_first(tmp_path: Path) -> None:
    with Runner(tmp_path / "root") as runner:
        mine = runner.result_of("lease", seconds=60, **ANNA)
        refused = runner.result_of("lease", seconds=60, **BERT)
        assert mine["held"] is True
        assert refused["held"] is False
        assert refused["lease"] == mine["lease"]
        assert {key: refused["lease"][key] for key in ANNA} == ANNA
        assert refused["lease"]["expires"] - refused["lease"]["since"] == pytest.approx(60, abs=1)
        assert runner.result_of("unlease", owner="bert", host="tower") == {"released": False}
        assert runner.result_of("unlease", owner="anna", host="laptop") == {"released": True}
        assert runner.result_of("lease", seconds=60, **BERT)["held"] is True


def test_renewing_keeps_the_beginning_and_never_shortens(tmp_path: Path) -> None:
    _, first, had = leases.take(str(tmp_path), ANNA, 60)
    held, second, had_it = leases.take(str(tmp_path), ANNA, 1)
    assert (had, held, had_it) == (False, True, True)
    assert second["since"] == first["since"]
    assert second["expires"] == pytest.approx(first["expires"], abs=0.5)


def test_a_lease_ends_by_itself(tmp_path: Path) -> None:
    leases.take(str(tmp_path), ANNA, 0.05)
    time.sleep(0.1)
    assert leases.current(str(tmp_path)) is None
    assert leases.take(str(tmp_path), BERT, 60)[0]


def test_a_lease_of_another_boot_is_none(tmp_path: Path) -> None:
    leases.take(str(tmp_path), ANNA, 60)
    path = Path(leases.lease_path(str(tmp_path)))
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "before"}))
    assert leases.take(str(tmp_path), BERT, 60)[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 1}', "\xff\x00"])
def test_a_spoiled_lease_file_is_no_lease(tmp_path: Path, text: str) -> None:
    Path(leases.lease_path(str(tmp_path))).write_text(text, encoding="latin1")
    assert leases.current(str(tmp_path)) is None
    assert leases.take(str(tmp_path), ANNA, 60)[0]


def lease_with(root: Path, **changes: object) -> None:
    leases.take(str(root), ANNA, 60)
    path = Path(leases.lease_path(str(root)))
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "change",
    [{"until_monotonic": 1e300}, {"until_monotonic": "later"}, {"until_monotonic": float("nan")}]
    + [{name: None} for name in ("owner", "host", "reason", "since", "expires")],
    ids=str,
)
def test_a_lease_that_another_account_forged_blocks_nobody_and_breaks_nothing(tmp_path: Path, change: dict) -> None:
    lease_with(tmp_path, **change)
    assert leases.current(str(tmp_path)) is None
    assert leases.take(str(tmp_path), BERT, 60)[0]


def test_a_lease_file_nested_too_deep_is_no_lease(tmp_path: Path) -> None:
    Path(leases.lease_path(str(tmp_path))).write_text("[" * 4000)
    assert leases.current(str(tmp_path)) is None


def test_a_lease_cannot_be_had_for_ever(tmp_path: Path) -> None:
    _, lease, _ = leases.take(str(tmp_path), ANNA, 1e9)
    assert lease["expires"] - lease["since"] <= leases.MAX_SECONDS + 1


def test_a_lock_is_exclusive_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    code = (
        "import sys,time; from edgeopt_runner.locks import FileLock; lock=FileLock(sys.argv[1]);"
        "print(lock.acquire(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"True\n"
        lock = locks.FileLock(path)
        assert not lock.acquire()
        assert lock.holder() == holder.pid
        holder.kill()
        holder.wait()
        assert lock.holder() is None
        assert lock.acquire()
        lock.release()


def test_a_lock_on_a_full_disk_is_a_lock_all_the_same(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from edgeopt_runner.locks import FileLock\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "first, second = FileLock(sys.argv[2]), FileLock(sys.argv[2])\n"
        "print(first.acquire(), second.acquire(), first.release(), second.acquire())\n"
    )
    source = str(Path(__file__).parents[2] / "runners")
    command = [sys.executable, "-c", script, source, str(tmp_path / "lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "False", "None", "True"], done.stderr


def test_a_lock_file_removed_by_its_holder_does_not_let_two_in(tmp_path: Path) -> None:
    first, second, third = (locks.FileLock(str(tmp_path / "lock")) for _ in range(3))
    assert first.acquire()
    first.release(remove=True)
    assert second.acquire()
    assert not third.acquire()


def test_a_symbolic_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        locks.FileLock(str(tmp_path / "lock")).acquire()
    assert victim.read_text() == "precious"


def test_the_board_has_one_lock_for_all_accounts_where_the_system_has_a_place_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEOPT_LOCK")
    shared = os.access("/run/lock", os.W_OK)
    expected = "/run/lock/edgeopt.lock" if shared else str(tmp_path / "device.lock")
    assert locks.board_lock_path(str(tmp_path)) == expected
