"""32-bit Raspberry Pi OS and Debian 11 (glibc 2.31, Python 3.9): their real userlands by a user-mode emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.remote import hostkeys
from support.board_builds import root_folder
from support.board_commands import answer, provision, run
from support.board_models import changed
from support.board_shell import running_userland
from support.sshd import Sshd
from support.workflow import Computer

pytestmark = [pytest.mark.boards, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def pi_32_bit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    root = root_folder("armhf", "python3-venv", "python3-numpy")
    folder = tmp_path_factory.mktemp("armhf")
    with running_userland(folder, root, "arm", cpu="cortex-a7", board="pi2-32bit") as server:
        yield server


@pytest.fixture(scope="module")
def bullseye_root() -> Path:
    return root_folder("arm64", "python3-venv", "python2.7-minimal", suite="bullseye")


@pytest.fixture(scope="module")
def bullseye(bullseye_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_userland(tmp_path_factory.mktemp("bullseye"), bullseye_root, "aarch64", cpu="cortex-a72") as server:
        yield server


def added(edgeopt: Computer, name: str, server: Sshd) -> dict[str, Any]:
    """What `device add` found."""
    words = ["device", "add", name, f"{server.user}@{server.host}:{server.port}", "--key", str(server.client_key)]
    words += ["--root", "/home/.edgeopt", "--fingerprint", hostkeys.scan(server.device())]
    document = answer(edgeopt, *words)
    return {**document["facts"], "profile": document["device"]["profile"]}


def test_1_a_32_bit_board_is_known_and_told_what_it_can_have(edgeopt: Computer, pi_32_bit: Sshd) -> None:
    facts = added(edgeopt, "pi2", pi_32_bit)
    assert (facts["machine"], facts["bits"], facts["python"]) == ("armv7l", 32, "3.11.2")
    assert facts["model"] == "Raspberry Pi 2 Model B Rev 1.1"
    assert facts["profile"] == "raspberry-pi-32bit"
    refused = edgeopt.command("device", "provision", "pi2", "--runtime", "onnxruntime")
    assert refused.returncode == 4
    said = " ".join(refused.stderr.split())
    assert "no wheel of onnxruntime for Python 3.11.2, glibc 2.36, armv7l, 32-bit" in said
    assert "It can have tflite_runtime or ncnn" in said


def test_2_it_runs_a_network_in_a_runtime_that_it_can_have(
    edgeopt: Computer, pi_32_bit: Sshd, digits_words: list[str]
) -> None:
    assert provision(edgeopt, "pi2") == {"tflite_runtime": "2.14.0"}
    words = changed(digits_words, runtimes="tflite_runtime", recipes="litert-float,litert-int8")
    record = answer(edgeopt, *words, "--target", "pi2", "--max-drop", "5%")
    assert record["deployment"]["release"] == 1
    judged = {one["candidate"]["variant"]["name"]: one for one in record["selection"]["assessments"]}
    assert judged["litert-float"]["drop"] is not None, "losses count from the original on the host"
    assert (pi_32_bit.home / ".edgeopt/apps/digits/current/model.tflite").is_file()


def test_3_debian_11_gets_the_release_for_its_glibc_and_runs_a_network_with_it(
    edgeopt: Computer, bullseye: Sshd, digits_words: list[str]
) -> None:
    facts = added(edgeopt, "old", bullseye)
    assert (facts["libc"], facts["python"][:4], facts["machine"]) == ("glibc 2.31", "3.9.", "aarch64")
    assert provision(edgeopt, "old", "--runtime", "onnxruntime") == {"onnxruntime": "1.19.2"}
    record = answer(edgeopt, *digits_words, "--target", "old", "--max-drop", "5%")
    assert record["deployment"]["release"] == 1


def test_4_a_board_with_python_2_alone_is_told_what_to_install_and_nothing_is_left_on_it(
    edgeopt: Computer, bullseye_root: Path, tmp_path: Path
) -> None:
    with running_userland(tmp_path, bullseye_root, "aarch64", cpu="cortex-a53", path="/home/bin") as server:
        (server.home / "bin").mkdir()
        for name, program in (("python", "python2.7"), ("uname", "uname")):
            (server.home / "bin" / name).symlink_to(f"/usr/bin/{program}")
        words = ["device", "add", "ancient", f"{server.user}@{server.host}:{server.port}", "--root", "/home/.edgeopt"]
        words += ["--key", str(server.client_key), "--fingerprint", hostkeys.scan(server.device())]
        status, _, error = run(edgeopt, *words)
        assert status == 4, error
        said = " ".join(error.split())
        assert "no Python 3.6 or newer on Linux aarch64 (found: /home/bin/python [2, 7, 18])" in said
        assert "Install python3 there" in said
        assert [path.name for path in server.home.iterdir()] == ["bin"]
    assert "ancient" not in [one["name"] for one in answer(edgeopt, "device", "list")["devices"]]
