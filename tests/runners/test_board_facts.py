"""Parsers of what Raspberry Pis and Jetsons tell, on text of many boards and on any bytes at all."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeopt.remote.facts import facts_of
from edgeopt.remote.untrusted import checked
from edgeopt_runner import (
    conditions,
    cpu,
    jetson,
    packages,
    power,
    probe,
    rails,
    raspberry,
    system,
    tegrastats,
    thermal,
)
from edgeopt_runner.board import Board, integer

DATA = Path(__file__).parents[1] / "data" / "probe"


def board(name):
    return Board(str(DATA / name))


def cases(name):
    return json.loads((DATA / "facts" / f"{name}.json").read_text())


def test_every_case_says_where_it_is_from():
    for path in (DATA / "facts").glob("*.json"):
        assert all(case["source"] for case in json.loads(path.read_text())), path


@pytest.mark.parametrize("case", cases("cpuinfo"), ids=lambda case: case["board"])
def test_cores_and_instruction_sets(case):
    found = cpu.parse_cpuinfo(case["text"])
    assert (found.name, found.board) == (case["cpu"], case["model"])
    assert set(case["has"]) <= set(found.isa)
    assert not set(case["has_not"]) & set(found.isa)


@pytest.mark.parametrize("case", cases("tegrastats"), ids=lambda case: case["board"])
def test_a_line_of_tegrastats(case):
    found, expected = tegrastats.parse(case["line"]), case["expect"]
    assert found.memory_bytes["RAM"] == tuple(size << 20 for size in expected["ram"])
    assert found.cores == [core and tuple(core) for core in expected["cores"]]
    assert found.clocks["GR3D_FREQ"] == tuple(expected["gpu"])
    assert found.milliwatts == {name: tuple(pair) for name, pair in expected["milliwatts"].items()}
    assert expected["celsius"].items() <= found.celsius.items()
    assert all(-40 < value < 150 for value in found.celsius.values())
    assert found.other == expected["other"]


@pytest.mark.parametrize("case", cases("nv_tegra_release"), ids=lambda case: case["text"][:40])
def test_the_release_and_its_jetpack(case):
    l4t = jetson.parse_release(case["text"])
    assert (l4t, jetson.jetpack_of(l4t)) == (case["l4t"], case["jetpack"])


@pytest.mark.parametrize("case", cases("nvpmodel"), ids=lambda case: case["text"])
def test_the_power_mode_in_all_its_forms(case):
    assert jetson.parse_power_mode(case["text"]) == case["mode"]


def test_every_throttle_bit_has_its_name_and_since_boot_is_apart():
    names = {bit: raspberry.conditions(1 << bit) for bit in range(32)}
    assert {bit for bit, found in names.items() if found} == {0, 1, 2, 3, 16, 17, 18, 19}
    assert names[0] == ["under-voltage now"]
    assert names[1] == ["frequency capped now"]
    assert names[18] == ["throttled since boot"]
    assert names[19] == ["soft temperature limit since boot"]
    assert raspberry.conditions(0x50005) == [
        "under-voltage now", "throttled now", "under-voltage since boot", "throttled since boot",
    ]  # fmt: skip
    assert raspberry.conditions(None) == []


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (raspberry.parse_temperature, "temp=48.3'C", 48.3),
        (raspberry.parse_temperature, 'error=1 error_msg="Command not registered"', None),
        (raspberry.parse_clock, "frequency(48)=1500398464", 1500398),
        (raspberry.parse_clock, "frequency(0)=2400033792", 2400033),
        (raspberry.parse_clock, "VCHI initialization failed", None),
        (system.parse_musl, "musl libc (aarch64)\nVersion 1.2.4\nDynamic Program Loader", "musl 1.2.4"),
        (system.parse_musl, "usage", ""),
        (packages.parse_metadata_name, "onnxruntime_gpu-1.23.0.dist-info", ("onnxruntime-gpu", "1.23.0")),
        (packages.parse_metadata_name, "tensorrt-8.2.1.8-py3.6.egg-info", ("tensorrt", "8.2.1.8")),
        (packages.parse_metadata_name, "ncnn-1.0.20250503.dist-info", ("ncnn", "1.0.20250503")),
        (packages.parse_metadata_name, "onnxruntime", None),
        (cpu.parse_cpu_list, "0-3,8", [0, 1, 2, 3, 8]),
        (cpu.parse_cpu_list, "0-99999999", []),
        (integer, "²", None),  # a digit to Python, and no number
        (integer, "9" * 5000, None),
        (integer, "-5", -5),
    ],
)  # fmt: skip
def test_small_parsers(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("machine", "bits"),
    [("aarch64", 64), ("armv8l", 64), ("armv7l", 32), ("armv6l", 32), ("x86_64", 64), ("i686", 32), ("", None)],
)
def test_the_kernels_bits(machine, bits):
    assert system.kernel_bits(machine) == bits


def test_the_device_tree_in_sysfs_comes_before_the_link_to_it(tmp_path):
    for folder, name in (("proc/device-tree", "old"), ("sys/firmware/devicetree/base", "new")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "compatible").write_bytes(f"{name},board\0{name},soc\0".encode())
        assert Board(str(tmp_path)).tree("compatible") == [f"{name},board", f"{name},soc"]


def test_a_raspberry_pi_5_whole(tmp_path):
    here = board("raspberry-pi-5")
    found = probe.probe(str(tmp_path), runtimes=False, board=here)
    assert found["compatible"] == ["raspberrypi,5-model-b", "brcm,bcm2712"]
    assert (found["max_khz"], found["swap_bytes"]) == (2400000, 204784 * 1024)
    assert "under-voltage now" in found["alarms"]
    assert "in0_lcrit alarm" in found["alarms"]
    assert found["packages"] == [{"name": "litert", "version": "2.1.0", "package": "ai-edge-litert", "python": "3.11"}]
    assert found["pythons"] == [{"path": "/usr/bin/python3.11", "version": "3.11"}]
    assert (found["l4t"], found["libraries"], found["gpus"]) == ("", {}, [])
    taken = conditions.snapshot(here)
    assert taken["firmware_khz"] == 1600029
    assert taken["power"]["rails"] == {"3V7_WL_SW": 370.0, "VDD_CORE": 1600.0}  # EXT5V has no current
    assert taken["power"]["scope"] == "sum of 2 rails"


def test_a_jetson_nano_whole(tmp_path):
    here = board("jetson-nano")
    found = probe.probe(str(tmp_path), runtimes=False, board=here)
    assert (found["l4t"], found["jetpack"]) == ("32.7.1", "4.6.1")
    assert found["libraries"] == {"cuda": "10.2.300", "cudnn": "8.2.1.32", "tensorrt": "8.2.1"}
    assert found["gpus"] == ["NVIDIA Maxwell (tegra210)"]
    assert (found["power_mode"], found["os_id"], found["os_version"]) == ("nvpmodel 1 5W", "ubuntu", "18.04")
    assert found["temperature_celsius"] == 24.5  # not the PMIC's 100
    assert [python["version"] for python in found["pythons"]] == ["3.6"]
    assert rails.read(here)["scope"] == "input POM_5V_IN"
    assert rails.read(here)["milliwatts"] == 2150.0
    assert jetson.gpu_khz(here) == {"min": 76800, "max": 921600, "current": 76800}


def test_an_orin_nano_whole(tmp_path):
    here = board("jetson-orin-nano")
    found = probe.probe(str(tmp_path), runtimes=False, board=here)
    assert (found["l4t"], found["jetpack"]) == ("36.4.3", "6.2")
    assert found["libraries"] == {"cuda": "12.6.68", "cudnn": "9.3.0", "tensorrt": "10.3.0"}  # by the files' names
    assert found["power_mode"] == "nvpmodel 2 MAXN_SUPER"
    assert [(facts["name"], facts["package"]) for facts in found["packages"]] == [
        ("onnxruntime", "onnxruntime-gpu"),
        ("tensorrt", "tensorrt"),
    ]
    taken = conditions.snapshot(here)
    assert taken["over_current_events"] == 3
    assert taken["power"]["source"] == "hwmon"
    assert taken["power"]["rails"].keys() == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}  # not the sum of channel 7
    assert taken["power"]["milliwatts"] == pytest.approx(4960 * 0.912, abs=0.1)


def test_a_container_on_a_thor_answers_by_commands_alone(tmp_path):
    here = board("jetson-thor-container")
    found = probe.probe(str(tmp_path), runtimes=False, board=here)
    assert (found["l4t"], found["jetpack"], found["power_mode"]) == ("38.4.0", "7.1", "nvpmodel 0 MAXN")
    assert found["model"] == "NVIDIA Jetson AGX Thor Developer Kit"
    drawn = rails.read(here)
    assert (drawn["source"], drawn["scope"], drawn["milliwatts"]) == ("tegrastats", "input VIN", 19780.0)
    assert rails.read(here, commands=False) is None


def test_over_current_and_a_kernel_that_holds_the_clock_down_are_throttling():
    quiet = {"over_current_events": 3, "cooling_state": 0, "governor": "schedutil"}
    assert conditions.flags(quiet, quiet, None, None, False) == []
    assert conditions.flags(quiet, {**quiet, "over_current_events": 4}, None, None, False) == ["throttled"]
    assert conditions.flags(quiet, {**quiet, "cooling_state": 2}, None, None, False) == ["throttled"]


def test_a_gpu_whose_limits_moved_changed_the_environment():
    before = {"gpu_khz": {"min": 306000, "max": 1020000, "current": 306000}}
    assert conditions.flags(before, {"gpu_khz": {**before["gpu_khz"], "current": 1020000}}, None, None, False) == []
    changed = {"gpu_khz": {**before["gpu_khz"], "max": 612000}}
    assert conditions.flags(before, changed, None, None, False) == ["env_changed"]


def test_fast_cores_of_a_mixed_processor(tmp_path):
    for number, capacity in enumerate([446, 446, 1024, 1024, 1024, 446]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}"
        folder.mkdir(parents=True)
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    here = Board(str(tmp_path))
    assert cpu.fast_cores([0, 1, 2, 3, 4, 5], here) == 3
    assert cpu.fast_cores([2, 3], here) is None  # all that we may use are alike
    (tmp_path / "sys/devices/cpu_core").mkdir()
    (tmp_path / "sys/devices/cpu_core/cpus").write_text("0-1\n")
    assert cpu.fast_cores([0, 1, 2, 3], here) == 2


def test_a_command_that_fails_or_never_ends_still_tells_what_it_printed():
    here = Board()
    failing = [sys.executable, "-c", "import sys; print('out'); sys.stderr.write('err'); sys.exit(1)"]
    assert here.command(failing) is None
    assert set(here.command(failing, whatever=True).split()) == {"out", "err"}
    endless = [sys.executable, "-c", "import time; print('line', flush=True); time.sleep(99)"]
    assert here.command(endless, whatever=True) == "line"
    assert here.command(["/no/such/tool"], whatever=True) is None


ODD = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"\0",
            b"-256000",
            b"nan",
            b"1e999",
            "²".encode(),
            b"9" * 5000,
            b"a:b:c",
            b"0x",
            b"avg10=nan",
            b"cpu 1 2 3 4 5",
        ]
    ),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Every file that any of the boards has, in one folder, to be filled with anything."""
    root = tmp_path_factory.mktemp("odd")
    for path in sorted(DATA.glob("*/**/*")):
        if path.is_file() and path.parts[len(DATA.parts)] != "facts":
            target = root.joinpath(*path.parts[len(DATA.parts) + 1 :])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return root, sorted(path for path in root.rglob("*") if path.is_file())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pool=st.lists(ODD, min_size=1, max_size=5), data=st.randoms(use_true_random=False))
def test_no_bytes_make_the_probe_fail_or_say_what_the_host_refuses(copies, pool, data):
    root, paths = copies
    for path in paths:
        path.write_bytes(data.choice(pool))
    here = Board(str(root))
    found = probe.probe(os.fspath(root / "runner"), runtimes=False, board=here)
    facts = facts_of(checked(json.loads(json.dumps(found, allow_nan=False)), "probe"), "board")
    assert facts.bits in (32, 64)
    taken = conditions.snapshot(here)
    checked(json.loads(json.dumps(taken, allow_nan=False)), "snapshot")
    conditions.flags(taken, taken, None, None, False)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=120), st.text("RAMCPU@[]%/mW0123456789.-C ()_,off", max_size=120)))
def test_no_text_makes_a_parser_fail(text):
    parsers = (
        tegrastats.parse, jetson.parse_release, jetson.jetpack_of, jetson.parse_packages, jetson.parse_power_mode,
        jetson.parse_mode_names, raspberry.parse_throttled, raspberry.parse_temperature, raspberry.parse_clock,
        raspberry.parse_rails, system.parse_os_release, system.parse_musl, packages.parse_metadata_name,
        cpu.parse_cpuinfo, cpu.parse_cpu_list, conditions.parse_cpu_times, conditions.parse_pressure,
        power.parse_time_in_state, thermal.parse_millicelsius,
    )  # fmt: skip
    for parse in parsers:
        parse(text)


@pytest.mark.parametrize(("size", "kept"), [(8191, 8191), (8192, 8192), (30000, 30000), (3 << 20, 1 << 20)])
def test_a_long_file_is_read_whole_and_an_endless_one_is_not(size, kept, tmp_path):
    (tmp_path / "file").write_text("x" * size)
    assert Board(str(tmp_path)).read("/file") == "x" * kept
