from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeopt.core.device import Device, DeviceFacts, PackageFacts, PythonFacts
from edgeopt.remote import doctor
from edgeopt.remote.doctor import Check, examine
from support.device import pin
from support.sshd import Sshd, make_key, running_sshd

HEALTHY = DeviceFacts(
    model="Pi",
    machine="aarch64",
    bits=64,
    cpu="Cortex-A76",
    isa=(),
    cores_logical=4,
    cores_physical=4,
    memory_bytes=8 << 30,
    memory_available_bytes=7 << 30,
    disk_free_bytes=1 << 34,
    os="Debian",
    kernel="6.6",
    libc="glibc 2.36",
    python="3.11.2",
    governor="performance",
    power_mode="",
    temperature_celsius=50.0,
    boot_id="b",
    runtimes=(),
    fingerprint="f",
)


def by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def failing(checks: tuple[Check, ...]) -> Check:
    (check,) = [check for check in checks if not check.ok and check.name != "runtimes"]
    return check


def test_a_healthy_board_passes_everything(server: Sshd) -> None:
    checks = by_name(examine(server.device()))
    assert list(checks)[:6] == ["reachable", "host key", "login", "shell", "Python", "folder"]
    assert all(checks[name].ok for name in ("reachable", "host key", "login", "shell", "Python", "folder", "clock"))
    assert "sftp is not needed" in checks["file transfer"].detail
    assert {"disk", "memory", "runtimes", "governor", "temperature"} <= set(checks)


def test_this_machine_is_examined_without_ssh(computer: Path, tmp_path: Path) -> None:
    checks = by_name(examine(Device("local", "local", root=str(tmp_path / "root"))))
    assert checks["host key"].detail == "no SSH"
    assert checks["runtimes"].ok
    assert "onnxruntime" in checks["runtimes"].detail


def test_a_sick_board_is_an_answer_that_names_the_first_step_that_fails(server: Sshd, tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    (server.home / "file").write_text("")
    sick = {
        "login": server.device(identity_file=str(wrong)),
        "Python": server.device(python="/no/such/python"),
        "folder": server.device(root=str(server.home / "file" / "x")),
        "reachable": server.device(host="no-such-board.invalid"),
    }
    for step, device in sick.items():
        checks = examine(device)
        assert failing(checks).name == step
        assert failing(checks).remedy
        assert checks[-1].name == step
    server.replace_host_key()
    assert failing(examine(server.device())).name == "host key"
    server.stop()
    assert failing(examine(server.device())).name == "reachable"


def test_noise_at_login_is_told_and_harmless(computer: Path, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "noisy", noise="Hello there\n") as server:
        pin(server)
        check = by_name(examine(server.device()))["shell"]
    assert check.ok
    assert "Hello there" in check.detail


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"disk_free_bytes": 1 << 20}, "disk"),
        ({"memory_available_bytes": 1 << 20}, "memory"),
        ({"governor": "powersave"}, "governor"),
        ({"temperature_celsius": 91.0}, "temperature"),
        ({"alarms": ("under-voltage now",)}, "power and heat"),
        ({"bits": 32, "kernel_bits": 64}, "userland"),
        ({"packages": (PackageFacts("litert", "2.1.0", "ai-edge-litert", "3.9"),)}, "packages"),
    ],
)
def test_what_spoils_measurements_is_found(change: dict[str, object], name: str) -> None:
    assert all(check.ok for check in doctor._judged(HEALTHY) if check.name != "runtimes")
    check = failing(doctor._judged(dataclasses.replace(HEALTHY, **change)))  # type: ignore[arg-type]
    assert check.name == name
    assert check.remedy


def judged(**changes: object) -> dict[str, Check]:
    return by_name(doctor._judged(dataclasses.replace(HEALTHY, **changes)))  # type: ignore[arg-type]


def test_an_alarm_of_the_past_is_told_from_one_of_now() -> None:
    now, past = (judged(alarms=(alarm,))["power and heat"] for alarm in ("throttled now", "throttled since boot"))
    assert "heat sink" in now.remedy
    assert "reboot" not in now.remedy
    assert "a reboot clears it" in past.remedy
    assert "supply" in judged(alarms=("in0 alarm",))["power and heat"].remedy


def test_what_is_installed_for_another_python_is_found_with_that_python() -> None:
    package = PackageFacts("litert", "2.1.0", "ai-edge-litert", "3.9")
    check = judged(packages=(package,), pythons=(PythonFacts("/opt/bin/python3.9", "3.9.2"),))["packages"]
    assert "ai-edge-litert 2.1.0 (Python 3.9) does not load" in check.detail
    assert "/opt/bin/python3.9" in check.remedy
    broken = judged(packages=(dataclasses.replace(package, python="3.11"),))["packages"]
    assert "provision NAME --runtime litert" in broken.remedy


def test_large_pages_are_told_and_are_no_fault() -> None:
    pi = judged(page_bytes=16384, compatible=("raspberrypi,5-model-b",))["pages"]
    assert pi.ok
    assert "16 KiB" in pi.detail
    assert "kernel8.img" in pi.detail
    assert "kernel8" not in judged(page_bytes=16384)["pages"].detail
