"""Snapshots of the board before and after, their differences, and the flags that they raise."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt_runner import conditions
from edgeopt_runner.board import THIS, Board
from edgeopt_runner.conditions import CpuTimes

DATA = Path(__file__).parents[1] / "data" / "probe"

QUIET = {
    "temperature_celsius": 50.0,
    "pi_throttled": 0,
    "throttle_count": 3,
    "governor": "ondemand",
    "power_mode": "",
    "turbo_off": None,
    "frequency_khz": {"min": 600000, "max": 1500000, "current": 600000},
    "time_in_state": {"600000": 100, "1500000": 100},
    "cpus_online": "0-3",
    "swap_in_pages": 7,
    "swap_out_pages": 0,
    "process_swap_bytes": 0,
    "major_faults": 10,
    "voluntary_switches": 5,
    "involuntary_switches": 6,
}


def flags(idle=0.99, others=0.01, hot=False, before=None, **after):
    return conditions.flags({**QUIET, **(before or {})}, {**QUIET, **after}, idle, others, hot)


def test_a_quiet_board_raises_no_flag():
    assert flags(temperature_celsius=70.0, frequency_khz={"min": 600000, "max": 1500000, "current": 1500000}) == []


@pytest.mark.parametrize(
    ("found", "flag"),
    [
        (flags(idle=0.84), "contended"),
        (flags(others=0.16), "contended"),
        (flags(throttle_count=4), "throttled"),
        (flags(pi_throttled=0x50000), "throttled"),  # throttled since, over again
        (flags(pi_throttled=0x80008, before={"pi_throttled": 0x80008}), "throttled"),  # at its soft limit all along
        (flags(swap_in_pages=8), "swapped"),
        (flags(process_swap_bytes=4096), "swapped"),
        (flags(hot=True), "started_hot"),
        (flags(governor="performance"), "env_changed"),
        (flags(cpus_online="0-2"), "env_changed"),
        (flags(frequency_khz={"min": 600000, "max": 1200000, "current": 600000}), "env_changed"),
        (flags(turbo_off=True), "env_changed"),
    ],
)
def test_each_trouble_raises_its_own_flag_alone(found, flag):
    assert found == [flag]


def test_an_old_throttling_that_stayed_since_boot_is_not_held_against_us():
    assert flags(pi_throttled=0x50000, before={"pi_throttled": 0x50000}) == []


def test_what_a_board_does_not_tell_raises_no_flag():
    nothing = dict.fromkeys(QUIET)
    assert conditions.flags(nothing, nothing, None, None, False) == []
    assert set(conditions.differences(nothing, nothing).values()) == {None}


def test_differences_are_what_was_gained():
    after = {**QUIET, "major_faults": 13, "time_in_state": {"600000": 100, "1500000": 300}}
    gained = conditions.differences(QUIET, after)
    assert (gained["major_faults"], gained["throttle_count"], gained["mean_khz"]) == (3, 0, 1500000)


def test_cpu_times_of_a_captured_board():
    text = "cpu  13403 0 4751 220559 1249 0 136 903 0 0\ncpu0 1 2 3 4\n"
    times = conditions.parse_cpu_times(text)
    assert times.total == 13403 + 4751 + 220559 + 1249 + 136 + 903
    assert times.busy == 13403 + 4751 + 136 + 903  # stolen time is busy, waiting for a disc is not
    assert conditions.cpu_times(Board(str(DATA / "epyc-vm"))).total > 0


@pytest.mark.parametrize("text", [None, "", "cpu", "cpu a b c d", "intr 5 6 7 8 9"])
def test_what_is_no_cpu_line_is_absent(text):
    assert conditions.parse_cpu_times(text) is None


def test_our_own_cpu_time_is_not_held_against_others():
    before, after = CpuTimes(1000, 10000), CpuTimes(1200, 10400)
    assert conditions.busy_share(before, after) == 0.5
    assert conditions.busy_share(before, after, own_seconds=1.5) == pytest.approx(0.125)
    assert conditions.busy_share(before, after, own_seconds=9.0) == 0.0
    assert conditions.busy_share(before, before) is None
    assert conditions.busy_share(None, after) is None


def test_pressure_is_a_share():
    text = "some avg10=1.77 avg60=1.84 avg300=0.64 total=14333849\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"
    assert conditions.parse_pressure(text) == pytest.approx(0.0177)
    assert conditions.parse_pressure(None) is None


def test_a_busy_neighbour_is_seen_and_a_longer_plan_waits_for_it():
    waits = []

    def busy(seconds):
        waits.append(seconds)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    assert conditions.idle_share(quick=True, sleep=busy) < 1.0 - 0.5 / os.cpu_count()
    assert waits == [0.2]
    waits.clear()
    conditions.idle_share(quick=False, sleep=lambda seconds: waits.append(seconds), board=Board(str(DATA / "epyc-vm")))
    assert waits == [1.0]  # a board that tells nothing is not waited for


@pytest.mark.parametrize("name", ["epyc-vm", "raspberry-pi-5", "intel-n100", "jetson-orin-nano", "no-such-board"])
def test_a_snapshot_of_any_board_has_every_field_and_is_json(name):
    taken = conditions.snapshot(Board(str(DATA / name)))
    assert set(taken) == set(conditions.snapshot(THIS))
    json.dumps(taken, allow_nan=False)


def test_a_snapshot_sees_our_own_page_faults_and_switches():
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\nfrom edgeopt_runner import conditions\n"
        "before = conditions.snapshot()\nfor _ in range(50): time.sleep(0.001)\n"
        "print(conditions.differences(before, conditions.snapshot())['voluntary_switches'])\n"
    )
    source = str(Path(__file__).parents[2] / "runners")
    done = subprocess.run([sys.executable, "-c", script, source], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 50
