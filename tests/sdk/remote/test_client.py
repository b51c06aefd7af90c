from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.errors import (
    BusyError,
    ProtocolError,
    ProvisionError,
    RemoteDiskError,
    RunnerError,
)
from edgeopt.remote.client import connect
from edgeopt.remote.jobs import Owner
from support.chaos import chaos_proxy
from support.device import pin, random_file
from support.runner import job
from support.sshd import Sshd, running_sshd

MIB = 1 << 20


@pytest.fixture
def local(computer: Path, tmp_path: Path) -> Device:
    return Device(name="local", transport="local", root=str(tmp_path / "root"))


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_connecting_places_the_runner_once_and_finds_it_the_next_time(server: Sshd) -> None:
    with connect(server.device()) as connection:
        assert connection.hello["protocol"] == 1
        digest = Path(connection.placed.bundle).parent.name
    bundle = server.home / ".edgeopt" / "runner" / digest / "edgeopt_runner.pyz"
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() == digest
    assert os.readlink(server.home / ".edgeopt" / "runner" / "current") == digest
    placed_at = bundle.stat().st_mtime_ns
    with connect(server.device()):
        assert bundle.stat().st_mtime_ns == placed_at


def test_a_damaged_runner_on_the_device_is_replaced(server: Sshd) -> None:
    with connect(server.device()) as connection:
        bundle = Path(connection.placed.bundle)
    bundle.write_bytes(b"half")
    with connect(server.device()):
        assert hashlib.sha256(bundle.read_bytes()).hexdigest() == bundle.parent.name


def test_nothing_is_left_outside_the_root_and_clean_takes_the_root_away(server: Sshd, tmp_path: Path) -> None:
    path, digest = random_file(tmp_path / "model", 1000)
    with connect(server.device()) as connection:
        connection.push(path, digest)
        connection.clean()
    assert not (server.home / ".edgeopt").exists()
    assert files_under(server.home) == set()


def test_noise_at_login_does_no_harm_and_is_kept(computer: Path, tmp_path: Path) -> None:
    noise = "Welcome to board!\n\x1b[31mLast login: today\x1b[0m\n" + "x" * 5000 + "\n"
    with running_sshd(tmp_path / "noisy", noise=noise, sftp=False) as server:
        pin(server)
        path, digest = random_file(tmp_path / "model", 3 * MIB)
        with connect(server.device()) as connection:
            assert connection.placed.noise.startswith("Welcome to board! [31mLast login: today[0m")
            assert connection.push(path, digest).sent_bytes == 3 * MIB
            assert connection.fetch(digest, tmp_path / "back", 4 * MIB) == 3 * MIB
        assert (tmp_path / "back").read_bytes() == path.read_bytes()


def test_everything_works_without_the_sftp_subsystem(computer: Path, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "bare", sftp=False) as server:
        pin(server)
        command = ["sftp", "-q", "-b", "-", "-P", str(server.port), "-i", str(server.client_key)]
        command += ["-o", f"UserKnownHostsFile={computer}/edgeopt/known_hosts", f"{server.user}@127.0.0.1"]
        assert subprocess.run(command, input=b"ls\n", capture_output=True).returncode != 0
        path, digest = random_file(tmp_path / "model", MIB)
        with connect(server.device()) as connection:
            assert connection.push(path, digest).sent_bytes == MIB
            assert connection.have([digest, "0" * 64]) == {digest}


def test_a_login_that_starts_nothing_shows_what_it_printed(computer: Path, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "menu", options=("ForceCommand echo This account is for backups only",)) as server:
        pin(server)
        with pytest.raises(ProtocolError, match="This account is for backups only") as caught:
            connect(server.device())
        assert "forced command" in caught.value.remedy


def tools_folder(folder: Path) -> Path:
    """A PATH with what a shell needs and no Python."""
    folder.mkdir()
    for name in ("uname", "cat", "sh"):
        (folder / name).symlink_to(f"/bin/{name}")
    return folder


def test_a_board_without_python_says_so_with_what_was_found(computer: Path, tmp_path: Path) -> None:
    tools = tools_folder(tmp_path / "tools")
    with running_sshd(tmp_path / "bare", path=str(tools)) as server:
        pin(server)
        with pytest.raises(ProvisionError, match=r"no Python 3.6 or newer on Linux \S+ \(found: none\)"):
            connect(server.device())
        old = tools / "python3"
        old.write_text('#!/bin/sh\necho "[3, 5, 3]"\nexit 1\n')
        old.chmod(0o755)
        with pytest.raises(ProvisionError, match=r"found: \S+/python3 \[3, 5, 3\]") as caught:
            connect(server.device())
        assert "--python" in caught.value.remedy


def test_a_newer_python_beside_an_old_one_is_found(computer: Path, tmp_path: Path) -> None:
    tools = tools_folder(tmp_path / "tools")
    (tools / "python3").write_text('#!/bin/sh\necho "[3, 5, 3]"\nexit 1\n')
    (tools / "python3").chmod(0o755)
    (tools / "python3.11").symlink_to("/usr/bin/python3")
    with running_sshd(tmp_path / "bare", path=str(tools)) as server:
        pin(server)
        with connect(server.device()) as connection:
            assert connection.placed.version.startswith("3.")


def test_the_named_interpreter_is_used(server: Sshd) -> None:
    python = subprocess.run(["sh", "-c", "command -v python3"], capture_output=True, text=True).stdout.strip()
    with connect(server.device(python=python)) as connection:
        assert connection.placed.version
    with pytest.raises(ProvisionError, match="found: none"):
        connect(server.device(python="/no/such/python"))


def test_a_root_that_cannot_be_written_says_so(server: Sshd) -> None:
    (server.home / "file").write_text("in the way")
    with pytest.raises(RemoteDiskError, match=r"home/file.*Not a directory") as caught:
        connect(server.device(root=str(server.home / "file" / "edgeopt")))
    assert "--root" in caught.value.remedy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_refused_before_anything_is_sent(server: Sshd, small_disk: Path, tmp_path: Path) -> None:
    path, digest = random_file(tmp_path / "model", 32 * MIB)
    with connect(server.device(root=str(small_disk / "edgeopt"))) as connection:
        with pytest.raises(RemoteDiskError, match=r"bytes free, and .* are needed"):
            connection.push(path, digest)
        assert connection.have([digest]) == frozenset()


def test_a_disk_without_room_for_the_runner_says_so(server: Sshd, small_disk: Path) -> None:
    filler = small_disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True)
    with pytest.raises(RemoteDiskError, match="ENOSPC") as caught:
        connect(server.device(root=str(small_disk / "edgeopt")))
    assert "--root" in caught.value.remedy


def test_a_file_with_another_digest_is_refused_and_not_kept(local: Device, tmp_path: Path) -> None:
    path, _ = random_file(tmp_path / "model", MIB)
    with connect(local) as connection:
        with pytest.raises(RunnerError) as caught:
            connection.push(path, "a" * 64)
        assert caught.value.status == "digest_mismatch"
        assert connection.have(["a" * 64]) == frozenset()


def test_after_a_refused_file_the_next_one_arrives(local: Device, tmp_path: Path) -> None:
    wrong, digest = random_file(tmp_path / "model", MIB)
    with connect(local) as connection:
        runner = connection.request("hello", protocols=[1])["pid"]
        with pytest.raises(RunnerError):
            connection.push(wrong, "a" * 64)
        assert connection.push(wrong, digest).sent_bytes == MIB
        assert connection.push(wrong, digest).sent_bytes == 0
        assert connection.request("hello", protocols=[1])["pid"] != runner, "the first one could not be asked any more"


def test_who_holds_the_lease_is_answered_while_a_file_is_sent(local: Device, tmp_path: Path) -> None:
    path, digest = random_file(tmp_path / "model", 3 * MIB)
    answers: list[bool] = []

    def ask(there: int, of: int) -> None:
        asking = threading.Thread(target=lambda: answers.append(digest in connection.have([digest])), daemon=True)
        asking.start()
        asking.join(20)

    with connect(local) as connection, connection.lease("a test"):
        connection.push(path, digest, ask)
    assert len(answers) == 3


def test_a_fetch_is_limited_and_replaces_atomically(local: Device, tmp_path: Path) -> None:
    path, digest = random_file(tmp_path / "outputs", 2 * MIB)
    target = tmp_path / "here" / "outputs"
    with connect(local) as connection:
        connection.push(path, digest)
        with pytest.raises(ProtocolError, match="2097152 bytes, more than the 1048576 allowed"):
            connection.fetch(digest, target, MIB)
        assert not target.exists()
        connection.fetch(digest, target, 2 * MIB)
        with pytest.raises(RunnerError) as caught:
            connection.fetch("b" * 64, target, MIB)
        assert caught.value.status == "missing_object"
    assert target.read_bytes() == path.read_bytes()
    assert files_under(target.parent) == {"outputs"}


def test_a_job_is_run_and_collected_again_under_its_name(local: Device) -> None:
    order = job("rehearse")
    with connect(local) as connection:
        first = connection.run_job(order)
        assert first["status"] == "ok"
    with connect(local) as connection:
        assert connection.run_job(order) == first


def test_a_result_with_another_nonce_is_refused(local: Device) -> None:
    order = job("rehearse")
    with connect(local) as connection:
        connection.run_job(order)
        with pytest.raises(ProtocolError, match="nonce"):
            connection.run_job({**order, "nonce": "0" * 32})


def test_a_job_survives_a_cut_link_and_its_result_is_collected(computer: Path, tmp_path: Path) -> None:
    environment = {"EDGEOPT_LOCK": str(tmp_path / "board.lock"), "EDGEOPT_FAULT": "work.start:sleep=3"}
    with running_sshd(tmp_path / "board", environment=environment) as server, chaos_proxy(server.port) as proxy:
        pin(server, proxy.port)
        seen: list[str] = []

        def cut_once(status: object) -> None:
            if not seen:
                proxy.cut_all()
            seen.append(str(dict(status)["state"]))  # type: ignore[call-overload]

        with connect(server.device(port=proxy.port)) as connection:
            result = connection.run_job(job("rehearse"), cut_once)
    assert result["status"] == "ok"
    assert proxy.connections == 2
    assert "running" in seen


def test_a_job_goes_on_without_its_host(computer: Path, tmp_path: Path) -> None:
    environment = {"EDGEOPT_LOCK": str(tmp_path / "board.lock"), "EDGEOPT_FAULT": "work.start:sleep=2"}
    order = job("rehearse")
    with running_sshd(tmp_path / "board", environment=environment) as server:
        pin(server)
        with connect(server.device()) as connection:
            connection.request("submit", job=order)
        with connect(server.device()) as connection:
            assert connection.run_job(order)["status"] == "ok"


def test_two_hosts_on_one_board_are_told_apart(server: Sshd) -> None:
    anna, bert = Owner("anna", "laptop"), Owner("bert", "desktop")
    with connect(server.device(), owner=anna) as first, connect(server.device(), owner=bert) as second:
        busy = pytest.raises(BusyError, match=r"board is in use by anna@laptop \(deploy of detector\)")
        with first.lease("deploy of detector"), busy, second.lease("bench"):
            pytest.fail("two owners on one board")
        with second.lease("bench"):
            pass


def test_requests_of_two_threads_get_their_own_answers(local: Device) -> None:
    with connect(local) as connection:
        answers: dict[int, frozenset[str]] = {}

        def ask(number: int) -> None:
            answers[number] = connection.have([f"{number:064x}"])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: frozenset() for number in range(8)}


def test_a_runner_that_was_killed_is_started_again(local: Device) -> None:
    with connect(local) as connection:
        os.kill(int(connection.hello["pid"]), 9)
        assert connection.have([]) == frozenset()


def test_what_the_runner_refuses_keeps_its_code(local: Device) -> None:
    with connect(local) as connection, pytest.raises(RunnerError) as caught:
        connection.request("status", job_id="../../etc/passwd")
    assert caught.value.status == "bad_request"


def test_the_probe_becomes_facts(local: Device) -> None:
    with connect(local) as connection:
        facts = connection.probe(runtimes=False)
    assert facts.machine == os.uname().machine
    assert facts.memory_bytes > 0
    assert facts.boot_id
