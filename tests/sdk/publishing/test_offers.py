"""What commands say becomes a rollout file that a board reads back, or one clear error."""

from __future__ import annotations

import json
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.fleet import Window
from edgeopt.errors import UsageError
from edgeopt.publishing.offers import Terms, fraction_of, labels_of, moment_of, rollout_file
from edgeopt_runner.protocol import offers

WORDS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=12)


@given(
    st.dictionaries(WORDS, WORDS, max_size=4),
    st.integers(0, 10_000),
    st.integers(0, 1 << 33),
    st.none()
    | st.builds(Window, st.lists(st.sampled_from(offers.DAYS)).map(tuple), st.integers(0, 1439), st.integers(1, 1440)),
)
def test_a_board_reads_what_a_host_writes(
    labels: dict[str, str], fraction: int, not_before: int, window: Window | None
) -> None:
    read = offers.read(rollout_file("digits", "1.0", Terms(labels, fraction, not_before, window), time.time()))
    assert (read.app, read.release, dict(read.labels)) == ("digits", "1.0", labels)
    assert (read.fraction_per_10000, read.not_before) == (fraction, not_before)
    assert (read.window is None) == (window is None)


@given(st.integers(0, 6), st.integers(0, 1439), st.integers(0, 1439), st.integers(1, 1440))
def test_a_window_opens_for_the_minutes_that_it_names(weekday: int, minute: int, start: int, end: int) -> None:
    day = offers.DAYS[weekday]
    inside = offers.is_open(offers.Window((day,), start, end), weekday, minute)
    assert inside == (start <= minute < end if start < end else minute >= start)
    after = offers.is_open(offers.Window((day,), start, end), weekday + 1, minute)
    assert after == (start >= end and minute < end)
    assert offers.is_open(offers.Window((), 0, 1440), weekday, minute)


@pytest.mark.parametrize("selector", ["tier!=canary", "site in (a,b)", "name=press-*", "press-1", "a=b,a=c", ""])
def test_selectors_that_a_board_cannot_judge_by_itself_are_refused(selector: str) -> None:
    with pytest.raises(UsageError, match="cannot choose boards that pull"):
        labels_of(selector)


def test_selectors() -> None:
    assert labels_of("all") == {}
    assert labels_of("region=north, profile=pi5") == {"region": "north", "profile": "pi5"}


@pytest.mark.parametrize(("text", "parts"), [("10%", 1000), ("0.5%", 50), ("100%", 10_000), ("0.01 %", 1)])
def test_shares(text: str, parts: int) -> None:
    assert fraction_of(text) == parts


@pytest.mark.parametrize("text", ["10", "101%", "-1%", "half", "1e9%", "0.001%"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fraction"):
        fraction_of(text)


def test_times() -> None:
    assert moment_of("2099-01-01T00:00:00+00:00", 0.0) == 4070908800
    with pytest.raises(UsageError, match="no date and time"):
        moment_of("tomorrow", 0.0)
    with pytest.raises(UsageError, match="past"):
        moment_of("1999-01-01", time.time())


GOOD = json.loads(rollout_file("digits", "1.0", Terms(rollout_id="ab" * 8), 1000.0))


@pytest.mark.parametrize(
    "change",
    [
        {"target": "releases/other/1.0.json"},
        {"target": "../etc/passwd"},
        {"app": "../x"},
        {"release": ""},
        {"fraction_per_10000": 10_001},
        {"fraction_per_10000": True},
        {"fraction_per_10000": "all"},
        {"labels": {"a": 1}},
        {"labels": []},
        {"rollout_id": "x"},
        {"window": {"days": ["someday"], "start": 0, "end": 1}},
        {"window": {"days": [], "start": -1, "end": 1}},
        {"window": {"start": 0, "end": 1}},
        {"window": []},
        {"not_before": -1},
        {"not_before": 1e300},
        {"more": 1},
    ],
)
def test_a_board_refuses_what_is_not_exactly_a_rollout_file(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        offers.read(json.dumps({**GOOD, **change}).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_offer_or_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        offers.read(data)


@pytest.mark.parametrize("data", [b"[" * 60_000, b'{"a":NaN}', b"x" * 70_000, b"\xff\xfe"])
def test_bombs_are_value_errors(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        offers.read(data)
