"""The watch from another process: memory, clocks, heat and power while a model is timed, and what is judged by them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt_runner import rails, watch
from edgeopt_runner.board import Board

CLOCK = "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
QUIET = {"at": 0.0, "khz": None, "celsius": None, "pi": None, "milliwatts": None}


def put(folder, path, text):
    """Replace a file as the kernel would: never half."""
    target = folder / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / "new").write_text(text)
    os.replace(folder / "new", target)


def wait_until_gone(pid):
    """Return when a process has ended (a zombie has); the test's own time limit is the only one."""
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)


def test_the_watch_sees_memory_that_came_and_went_and_clocks_that_fell(tmp_path):
    put(tmp_path, "/proc/meminfo", "MemAvailable: 9000 kB\n")
    put(tmp_path, CLOCK, "2400000")
    put(tmp_path, "/sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    put(tmp_path, "/sys/class/thermal/thermal_zone0/temp", "61500")
    watching = watch.Watch(Board(str(tmp_path)))
    for kilobytes, kilohertz in ((9000, 2400000), (2000, 2400000), (8000, 1500000)):
        put(tmp_path, "/proc/meminfo", f"MemAvailable: {kilobytes} kB\n")
        put(tmp_path, CLOCK, str(kilohertz))
        time.sleep(1.5)
    seen = watching.end()
    assert seen.lowest_bytes == 2000 * 1024
    found = watch.summary(seen.looks)
    assert found["hottest_celsius"] == 61.5
    assert (found["first_khz"], found["last_khz"]) == (2400000, 1500000)
    assert watch.clocks_fell(found)
    assert seen.between(0.0, seen.looks[0]["at"]) == seen.looks[:1]


def looks(*clocks, **more):
    return [{**QUIET, "at": float(number), "khz": clock, **more} for number, clock in enumerate(clocks)]


@pytest.mark.parametrize(
    ("clocks", "fell"),
    [
        ([2400] * 9, False),
        ([2400] * 6 + [1500] * 3, True),
        ([2400, 2300, 2400, 2350, 2400, 2300, 2350, 2400, 2300], False),  # a governor's play
        ([2400] * 8 + [600], False),  # one look is none
        ([600] * 3 + [2400] * 6, False),  # it rose
        ([2400] * 5 + [1500] * 3, False),  # too short to tell
        ([None] * 12, False),
    ],
)
def test_only_a_clock_that_stays_down_fell(clocks, fell):
    assert watch.clocks_fell(watch.summary(looks(*clocks))) is fell


def test_bits_that_came_and_went_and_mean_power_are_in_the_summary():
    seen = looks(1, 1, milliwatts=4000.0, celsius=60.0, pi=0) + looks(1, 1, milliwatts=5000.0, celsius=71.5, pi=4)
    found = watch.summary([*seen, *looks(1, pi=0)])
    assert (found["pi_throttled"], found["milliwatts"], found["hottest_celsius"]) == (4, 4500.0, 71.5)
    nothing = watch.summary([])
    assert nothing.pop("looks") == 0
    assert set(nothing.values()) == {None}


def test_energy_is_that_of_the_phase_and_what_the_model_added():
    idle = {"scope": "input VDD_IN", "milliwatts": 4000.0}
    found = rails.energy(idle, 10000.0, 5.0, 100)
    assert found["scope"] == "input VDD_IN"
    assert found["millijoules"] == pytest.approx(500.0)
    assert found["millijoules_above_idle"] == pytest.approx(300.0)
    assert rails.energy(None, 10000.0, 5.0, 100) is None
    assert rails.energy(idle, None, 5.0, 100) is None
    assert rails.energy(idle, 10000.0, 5.0, 0) is None


def test_the_watch_ends_with_a_worker_that_is_killed():
    script = (
        "import os, signal\nfrom edgeopt_runner import watch\n"
        "watching = watch.Watch(); print(watching._pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    source = str(Path(__file__).parents[2] / "runners")
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1])\n" + script, source]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, timeout=60, check=False
    )  # ends when the watcher's stdout closes
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(int(done.stdout))


def test_the_watcher_holds_no_descriptor_of_the_worker():
    read, write = os.pipe()
    watching = watch.Watch()
    os.close(write)
    try:
        assert os.read(read, 1) == b""  # would block if the watcher held the other end
    finally:
        watching.end()
        os.close(read)
