"""What a board says about itself, from files of several boards and from this machine."""

import importlib.util
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from edgeopt import documents
from edgeopt.core.device import DeviceFacts
from edgeopt_runner import cpu, engines, probe, runtimes, system
from edgeopt_runner.board import Board

DATA = Path(__file__).parents[1] / "data" / "probe"


def board(name):
    return Board(str(DATA / name))


def cpu_of(name):
    return cpu.parse_cpuinfo(board(name).read("/proc/cpuinfo"))


@pytest.mark.parametrize(
    ("name", "cpu_name", "has", "has_not"),
    [
        ("epyc-vm", "AMD EPYC", {"avx2", "fma", "f16c"}, {"avx512_vnni", "avx_vnni", "sse2"}),
        ("intel-n100", "Intel(R) N100", {"avx2", "avx_vnni"}, {"avx512f"}),
        ("raspberry-pi-5", "Cortex-A76", {"asimddp", "asimdhp"}, {"i8mm", "sve", "crc32"}),
        ("raspberry-pi-3-32bit", "Cortex-A53", {"neon", "vfpv4"}, {"asimd"}),
    ],
)
def test_cpu_name_and_instruction_sets(name, cpu_name, has, has_not):
    found = cpu_of(name)
    assert found.name == cpu_name
    assert has <= set(found.isa)
    assert not has_not & set(found.isa)
    assert found.isa == sorted(found.isa)


def test_mixed_cores_are_named_and_only_what_all_can_do_counts():
    text = (
        "processor: 0\nFeatures: asimd asimddp\nCPU implementer: 0x41\nCPU part: 0xd05\n\n"
        "processor: 1\nFeatures: asimd asimddp i8mm\nCPU implementer: 0x41\nCPU part: 0xd0b\n"
    )
    found = cpu.parse_cpuinfo(text)
    assert (found.name, found.isa) == ("Cortex-A55 + Cortex-A76", ["asimd", "asimddp"])


def test_an_unknown_arm_core_is_told_by_its_numbers():
    assert cpu.parse_cpuinfo("CPU implementer : 0x61\nCPU part : 0x022\n").name == "ARM 0x61:0x022"


@pytest.mark.parametrize("text", [None, "", "nonsense", "CPU implementer: ?\nCPU part: ?\n"])
def test_an_unreadable_cpuinfo_does_not_fail(text):
    assert cpu.parse_cpuinfo(text).isa == []


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("raspberry-pi-5", "Raspberry Pi 5 Model B Rev 1.0"),
        ("raspberry-pi-3-32bit", "Raspberry Pi 3 Model B Rev 1.2"),
        ("jetson-orin-nano", "NVIDIA Jetson Orin Nano Developer Kit"),
        ("intel-n100", "AZW"),
        ("epyc-vm", ""),
    ],
)
def test_the_boards_name_without_placeholders(name, model):
    assert cpu.board_model(board(name), cpu_of(name).board) == model


def test_hyperthreads_share_a_core(tmp_path):
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    here = Board(str(tmp_path))
    assert cpu.physical_cores([0, 1, 2, 3], here) == 2
    assert cpu.physical_cores([0, 2], here) == 1
    assert cpu.physical_cores([0, 1, 8], Board(str(tmp_path / "nothing"))) == 3


def test_only_the_cpus_that_we_may_use_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpu.allowed_cpus() == [min(allowed)]
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_probe_of_this_machine_is_whole(tmp_path):
    found = probe.probe(str(tmp_path))
    facts = documents.decode(DeviceFacts, found, where="probe")
    assert (facts.bits, facts.machine) == (64, os.uname().machine)
    assert facts.cores_logical >= facts.cores_physical >= 1
    assert facts.memory_bytes >= facts.memory_available_bytes > 0
    assert facts.disk_free_bytes > 0
    runtime = facts.runtime("onnxruntime")
    import onnxruntime

    assert runtime.version == onnxruntime.__version__
    assert "CPUExecutionProvider" in runtime.providers
    assert len(facts.fingerprint) == 64


@pytest.mark.parametrize("name", ["epyc-vm", "raspberry-pi-5", "intel-n100", "jetson-orin-nano", "no-such-board"])
def test_the_probe_of_any_board_is_whole(tmp_path, name):
    found = probe.probe(str(tmp_path / "not" / "yet"), runtimes=False, board=board(name))
    facts = documents.decode(DeviceFacts, found, where="probe")
    assert facts.fingerprint == ""  # it depends on the runtimes, which were not looked for
    assert facts.disk_free_bytes > 0


FACTS = {
    "model": "m",
    "machine": "aarch64",
    "bits": 64,
    "cpu": "c",
    "isa": ["asimd"],
    "cores_logical": 4,
    "cores_physical": 4,
    "memory_bytes": 8 << 30,
    "os": "o",
    "kernel": "k",
    "libc": "glibc 2.36",
    "governor": "ondemand",
    "power_mode": "",
    "runtimes": [{"name": "onnxruntime", "version": "1.20", "interpreter": "/a"}],
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"governor": "performance"}, False),
        ({"kernel": "k2"}, False),
        ({"runtimes": [{"name": "onnxruntime", "version": "1.21", "interpreter": "/a"}]}, False),
        ({"runtimes": []}, False),
        ({"memory_bytes": 4 << 30}, False),
        ({"runtimes": [{"name": "onnxruntime", "version": "1.20", "interpreter": "/b"}]}, True),
        ({"memory_bytes": (8 << 30) + 4096}, True),
        ({"temperature_celsius": 80.0, "disk_free_bytes": 1, "boot_id": "x"}, True),
    ],
)
def test_the_fingerprint_follows_what_a_measurement_depends_on(change, same):
    assert (probe.fingerprint({**FACTS, **change}) == probe.fingerprint(FACTS)) is same


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian', "Debian GNU/Linux 12 (bookworm)"),
        ("ID=x", ""),
        (None, ""),
    ],
)
def test_the_systems_name(text, name):
    assert system.parse_os_release(text).get("PRETTY_NAME", "") == name


def interpreter(folder, script):
    """An executable that stands for the interpreter of a provisioned environment."""
    path = folder / "env" / "current" / "bin" / "python"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def one_engine(monkeypatch):
    """Whatever else is installed here, only ONNX Runtime is asked for."""
    monkeypatch.setattr(engines, "MODULES", {"onnxruntime": engines.MODULES["onnxruntime"]})


@pytest.mark.usefixtures("one_engine")
def test_the_provisioned_environment_comes_first(tmp_path):
    path = interpreter(tmp_path, f'exec {sys.executable} "$@"')
    (found,) = runtimes.find(str(tmp_path))
    assert found["interpreter"] == str(path)


@pytest.mark.usefixtures("one_engine")
@pytest.mark.parametrize("script", ["kill -ILL $$", "kill -SEGV $$", "exit 3", "echo noise", "exit 0"])
def test_a_runtime_whose_import_crashes_is_absent_and_the_others_are_found(tmp_path, script):
    path = interpreter(tmp_path, script)
    assert runtimes.ask(str(path), "onnxruntime") is None
    (found,) = runtimes.find(str(tmp_path))
    assert found["interpreter"] == sys.executable


@pytest.mark.usefixtures("one_engine")
def test_an_interpreter_is_asked_again_only_when_its_packages_changed(tmp_path):
    count = tmp_path / "asked"
    packages = tmp_path / "packages"
    packages.mkdir()
    script = f'echo . >> {count}\nexec {sys.executable} -c "import sys; sys.path.append(\'{packages}\')\n$3" "$4" "$5"'
    interpreter(tmp_path, script)
    first = runtimes.find(str(tmp_path))
    assert runtimes.find(str(tmp_path)) == first
    assert count.read_text().split() == ["."]
    (packages / "new_package").mkdir()
    os.utime(packages, (1, 1))
    assert runtimes.find(str(tmp_path)) == first
    assert count.read_text().split() == [".", "."]


@pytest.mark.usefixtures("one_engine")
def test_the_workers_look_does_not_forget_what_the_server_found(tmp_path, monkeypatch):
    count = tmp_path / "asked"
    server = tmp_path / "server"
    server.write_text(f'#!/bin/sh\necho . >> {count}\nexec {sys.executable} "$@"\n')
    server.chmod(0o755)
    worker = interpreter(tmp_path, f'exec {sys.executable} "$@"')
    for own in (server, worker, server):
        monkeypatch.setattr(sys, "executable", str(own))
        assert len(runtimes.find(str(tmp_path))) == 1
    assert count.read_text().split() == ["."]


@pytest.mark.usefixtures("one_engine")
def test_a_board_that_cannot_be_written_to_is_probed_all_the_same():
    assert [found["name"] for found in runtimes.find("/proc/nowhere")] == ["onnxruntime"]


@pytest.fixture
def counted(tmp_path):
    """An interpreter that greets and counts its starts, and the file with one line for each."""
    path = interpreter(tmp_path, f'echo "${{5:-look}}" >> {tmp_path}/starts\necho Welcome\nexec {sys.executable} "$@"')
    return path, tmp_path / "starts"


def test_only_runtimes_that_are_installed_cost_an_import(counted, tmp_path, monkeypatch):
    path, starts = counted
    names = ("executorch", "onnxruntime", "tensorrt")
    monkeypatch.setattr(engines, "MODULES", {name: engines.MODULES[name] for name in names})
    monkeypatch.setattr(sys, "executable", str(path))
    (found,) = runtimes.find(str(tmp_path))
    assert found["name"] == "onnxruntime"
    assert len(starts.read_text().split()) == 2  # the look and ONNX Runtime
    assert starts.read_text().split()[1] == "onnxruntime"
    assert runtimes.find(str(tmp_path)) == [found]
    assert len(starts.read_text().split()) == 2


def test_where_nothing_can_be_seen_beforehand_every_runtime_is_asked(tmp_path, monkeypatch):
    starts = tmp_path / "starts"
    path = interpreter(tmp_path, f"echo $5 >> {starts}\ncase $3 in *find_spec*) kill -ILL $$;; esac\nexit 3")
    monkeypatch.setattr(runtimes, "interpreters", lambda root: [str(path)])
    assert runtimes.find(str(tmp_path)) == []
    assert set(engines.names()) <= set(starts.read_text().split())


@pytest.mark.parametrize("name", engines.names())
def test_every_engine_says_which_packages_it_needs(name):
    source = Path(importlib.util.find_spec(engines.MODULES[name]).origin).read_text()
    assert engines.PACKAGES[name]
    assert all(re.search(rf"(import |\(\"){package}\b", source) for package in engines.PACKAGES[name])
