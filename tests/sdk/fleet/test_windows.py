"""Maintenance windows, over midnight and over changes of the clocks."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.fleet import WEEKDAYS, Window
from edgeopt.errors import UsageError
from edgeopt.fleet.windows import opens_at, parse_window, window_text

OSLO = ZoneInfo("Europe/Oslo")


def at(text: str, zone: dt.tzinfo = OSLO) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon-fri 01:00-04:30", Window(("mon", "tue", "wed", "thu", "fri"), 60, 270)),
        ("Sat,Sun 22:00 - 6:00", Window(("sat", "sun"), 1320, 360)),
        ("fri-mon 00:00-24:00", Window(("mon", "fri", "sat", "sun"), 0, 1440)),
        ("01:00-04:30", Window((), 60, 270)),
        ("mon-sun 01:00-04:30", Window((), 60, 270)),
        ("2026-11-28 23:00-01:00", Window((), 1380, 60, "2026-11-28")),
    ],
)
def test_windows_are_read_and_written(text: str, window: Window) -> None:
    assert parse_window(text) == window
    assert parse_window(window_text(window)) == window


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("night", "'night' is no maintenance window"),
        ("mon 25:00-26:00", "25:00 is no time of the day"),
        ("mon 01:60-02:00", "01:60 is no time"),
        ("moon 01:00-02:00", "'moon' is no day of the week"),
        ("2026-02-30 01:00-02:00", "2026-02-30 is no day of the calendar"),
        ("24:00-01:00", "begins at 24:00"),
    ],
)
def test_what_is_no_window_is_refused_with_the_value(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_window(text)


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("mon-fri 01:00-04:30", "2026-11-23 03:00", "2026-11-23 03:00"),
        ("mon-fri 01:00-04:30", "2026-11-23 04:30", "2026-11-24 01:00"),
        ("mon-fri 01:00-04:30", "2026-11-27 05:00", "2026-11-30 01:00"),
        ("fri 22:00-06:00", "2026-11-28 05:59", "2026-11-28 05:59"),  # still Friday's
        ("fri 22:00-06:00", "2026-11-28 06:00", "2026-12-04 22:00"),
        ("mon 01:00-02:00", "2026-11-23 02:00", "2026-11-30 01:00"),
        ("2026-11-28 23:00-01:00", "2026-11-23 12:00", "2026-11-28 23:00"),
        ("2026-11-28 23:00-01:00", "2026-11-29 00:30", "2026-11-29 00:30"),
        ("02:10-02:50", "2026-03-29 00:00", "2026-03-29 03:10"),  # that night has no 02:10
        ("02:30-03:00", "2026-03-29 00:00", "2026-03-29 03:30"),
        ("00:00-24:00", "2026-11-23 23:59", "2026-11-23 23:59"),
    ],
)
def test_a_window_opens_by_the_boards_own_clock(window: str, now: str, opens: str) -> None:
    assert opens_at(parse_window(window), at(now), OSLO) == at(opens)


def test_boards_in_different_zones_open_at_different_times() -> None:
    window, now = parse_window("01:00-04:30"), at("2026-11-23 12:00", dt.timezone.utc)
    assert opens_at(window, now, OSLO) == at("2026-11-24 00:00", dt.timezone.utc)
    assert opens_at(window, now, dt.timezone(dt.timedelta(hours=-5))) == at("2026-11-24 06:00", dt.timezone.utc)


def test_an_hour_that_comes_twice_belongs_to_the_window_from_its_first() -> None:
    first = at("2026-10-25 02:30")
    assert opens_at(parse_window("02:30-02:45"), at("2026-10-25 00:00"), OSLO) == first
    assert opens_at(parse_window("02:30-03:00"), first + 3600, OSLO) == first + 3600


def test_a_window_that_has_passed_is_an_error() -> None:
    with pytest.raises(UsageError, match="maintenance window 2026-11-20 01:00-02:00 has passed"):
        opens_at(parse_window("2026-11-20 01:00-02:00"), at("2026-11-23 12:00"), OSLO)


@given(
    st.sets(st.sampled_from(WEEKDAYS)).map(lambda days: tuple(day for day in WEEKDAYS if day in days)),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.integers(1_577_836_800, 1_893_456_000),
)
def test_a_window_opens_within_eight_days_and_is_then_open(
    days: tuple[str, ...], start: int, end: int, now: int
) -> None:
    window = Window(days, start, end)
    opens = opens_at(window, float(now), OSLO)
    assert now <= opens <= now + 8 * 86400 + 7200
    assert opens_at(window, opens, OSLO) == opens
