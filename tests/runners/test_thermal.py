"""Temperatures, signs of throttling, clocks, and the wait for a cool board, on files of several boards."""

from pathlib import Path

import pytest

from edgeopt_runner import power, raspberry, thermal
from edgeopt_runner.board import Board

DATA = Path(__file__).parents[1] / "data" / "probe"
BOARDS = ["epyc-vm", "raspberry-pi-5", "raspberry-pi-3-32bit", "intel-n100", "jetson-orin-nano"]


def board(name):
    return Board(str(DATA / name))


@pytest.mark.parametrize(
    ("text", "celsius"),
    [("48350", 48.35), ("-256000", None), ("0", 0.0), ("", None), (None, None), ("hot", None), ("200000", None)],
)
def test_sensors_that_are_off_or_absurd_are_absent(text, celsius):
    assert thermal.parse_millicelsius(text) == celsius


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("throttled=0x50005", 0x50005),
        ("50005", 0x50005),
        ("throttled=0x0", 0),
        ("VCHI initialization failed", None),
        (None, None),
    ],
)
def test_pi_throttle_bits_in_both_spellings(text, bits):
    assert raspberry.parse_throttled(text) == bits


@pytest.mark.parametrize(
    ("name", "celsius"),
    [("epyc-vm", None), ("raspberry-pi-5", 48.35), ("intel-n100", 61.0), ("jetson-orin-nano", 51.0)],
)
def test_the_cpus_hottest_sensor_counts_not_the_discs(name, celsius):
    assert thermal.temperature(board(name)) == celsius


def test_throttling_is_read_where_each_board_tells_it():
    assert raspberry.throttled(board("raspberry-pi-5")) == 0x50005
    assert raspberry.throttled(board("intel-n100")) is None
    assert thermal.throttle_count(board("intel-n100")) == 12
    assert thermal.throttle_count(board("raspberry-pi-5")) is None


def test_a_fan_is_no_sign_of_throttling():
    assert thermal.cooling_state(board("raspberry-pi-5")) is None


def test_clocks_and_modes():
    pi, n100, jetson = board("raspberry-pi-5"), board("intel-n100"), board("jetson-orin-nano")
    assert power.governor(pi) == "ondemand"
    assert power.frequencies(pi) == {"min": 1500000, "max": 2400000, "current": 1600000}
    assert power.time_in_state(pi) == {"1500000": 90211, "1600000": 512, "2400000": 10321}
    assert (power.governor(n100), power.power_mode(n100), power.turbo_off(n100)) == (
        "powersave",
        "balance_performance",
        False,
    )
    assert power.power_mode(jetson) == "nvpmodel 2 MAXN_SUPER"


def test_mean_clock_between_two_readings():
    assert power.mean_kilohertz({"1000": 10, "2000": 10}, {"1000": 20, "2000": 40}) == 1750
    assert power.mean_kilohertz({"1000": 10}, {"1000": 10}) is None
    assert power.mean_kilohertz(None, {"1000": 10}) is None


@pytest.mark.parametrize("name", [*BOARDS, "no-such-board"])
def test_no_board_makes_a_reader_fail(name):
    here = board(name)
    thermal.temperatures(here), thermal.cooling_state(here), raspberry.throttled(here), thermal.throttle_count(here)
    (
        power.governor(here),
        power.frequencies(here),
        power.time_in_state(here),
        power.power_mode(here),
        power.turbo_off(here),
    )


class Cooling:
    """A board whose temperature falls with time; time passes only by sleeping."""

    def __init__(self, celsius_at):
        self.now = 100.0
        self.celsius_at = celsius_at

    def wait(self, limit, cap=180.0):
        return thermal.cool_down(
            limit, cap, read=lambda: self.celsius_at(self.now - 100.0), clock=lambda: self.now, sleep=self._sleep
        )

    def _sleep(self, seconds):
        self.now += seconds


def test_a_cool_board_starts_at_once():
    assert Cooling(lambda t: 50.0).wait(60.0) == {
        "start_celsius": 50.0,
        "end_celsius": 50.0,
        "waited_seconds": 0.0,
        "hot": False,
    }


def test_a_hot_board_waits_until_it_is_below_the_limit_and_no_longer():
    found = Cooling(lambda t: 75.0 - t).wait(60.0)
    assert (found["hot"], found["end_celsius"], found["waited_seconds"]) == (False, 60.0, 15.0)


def test_a_board_that_no_longer_cools_starts_hot():
    found = Cooling(lambda t: max(65.0, 75.0 - t)).wait(60.0)
    assert found["hot"]
    assert 15.0 <= found["waited_seconds"] <= 25.0


def test_waiting_has_an_end():
    found = Cooling(lambda t: 90.0 - t / 10).wait(60.0, cap=30.0)
    assert found["hot"]
    assert found["waited_seconds"] == 30.0


@pytest.mark.parametrize(("limit", "celsius"), [(None, 95.0), (60.0, None)])
def test_without_limit_or_sensor_nothing_waits(limit, celsius):
    found = Cooling(lambda t: celsius).wait(limit)
    assert (found["hot"], found["waited_seconds"]) == (False, 0.0)
