"""Maintenance windows: `mon-fri 01:00-04:30` in a board's local time, over midnight and over changes of the clocks."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

from edgeopt.core.fleet import WEEKDAYS, Window
from edgeopt.errors import UsageError

_REMEDY = "Write `mon-fri 01:00-04:30`, `sat,sun 22:00-06:00`, `01:00-04:30` or `2026-11-28 01:00-04:30`."
_TEXT = re.compile(r"(?:(?P<days>\S+)\s+)?(?P<start>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DAY = 1440


def parse_window(text: str) -> Window:
    """A window from words.

    Args:
        text: Days (names, ranges, or one date; none: every day) and two times; an end at or before the start is on the
            next day.

    Raises:
        UsageError: It is no window.
    """
    found = _TEXT.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise UsageError(f"{text!r} is no maintenance window.", remedy=_REMEDY)
    start, end, days = _minutes(found["start"], text), _minutes(found["end"], text), found["days"] or ""
    if start == _DAY:
        raise UsageError(f"{text!r} begins at 24:00.", remedy=_REMEDY)
    if _DATE.fullmatch(days):
        return Window((), start, end, _checked_date(days, text))
    return Window(_weekdays(days, text), start, end)


def window_text(window: Window) -> str:
    """A window as `parse_window` takes it."""
    times = f"{window.start // 60:02}:{window.start % 60:02}-{window.end // 60:02}:{window.end % 60:02}"
    return " ".join(filter(None, [window.date or ",".join(window.days), times]))


def _minutes(text: str, whole: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _DAY:
        raise UsageError(f"{whole!r}: {text} is no time of the day.", remedy=_REMEDY)
    return hours * 60 + minutes


def _checked_date(text: str, whole: str) -> str:
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"{whole!r}: {text} is no day of the calendar.", remedy=_REMEDY) from None


def _weekdays(text: str, whole: str) -> tuple[str, ...]:
    named: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            raise UsageError(f"{whole!r}: {part!r} is no day of the week.", remedy=f"Days are {', '.join(WEEKDAYS)}.")
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        named |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return tuple(WEEKDAYS[day] for day in sorted(named)) if len(named) < 7 else ()


def opens_at(window: Window, now: float, zone: dt.tzinfo) -> float:
    """When a board may next be changed: `now` while its window is open, else the beginning of the next one.

    A beginning that the clocks leave out is taken as if they had not been changed yet; one that comes twice is the
    first.

    Args:
        window: The window.
        now: Seconds since the epoch.
        zone: The board's time zone.

    Raises:
        UsageError: It never opens again: its only day has passed.
    """
    today = dt.datetime.fromtimestamp(now, zone).date()
    for day in _days(window, today):
        start, end = _span(window, day, zone)
        if now < end:
            return max(now, start)
    raise UsageError(
        f"the maintenance window {window_text(window)} has passed.", remedy="Give one that is still to come."
    )


def _days(window: Window, today: dt.date) -> Iterator[dt.date]:
    """Days on which the window begins, from yesterday, whose window may still be open, on."""
    if window.date:
        yield dt.date.fromisoformat(window.date)
        return
    for step in range(-1, 9):
        day = today + dt.timedelta(days=step)
        if not window.days or WEEKDAYS[day.weekday()] in window.days:
            yield day


def _span(window: Window, day: dt.date, zone: dt.tzinfo) -> tuple[float, float]:
    """Begin and end of the window of a day, in seconds since the epoch."""
    over = window.end <= window.start
    start = _instant(day, window.start, zone)
    end = _instant(day + dt.timedelta(days=1) if over else day, window.end, zone)
    if end <= start:  # both lie about where the clocks jump forward
        end = start + (window.end - window.start + (_DAY if over else 0)) * 60
    return start, end


def _instant(day: dt.date, minutes: int, zone: dt.tzinfo) -> float:
    day += dt.timedelta(days=minutes // _DAY)
    time = dt.time(minutes % _DAY // 60, minutes % 60)
    return dt.datetime.combine(day, time, zone).timestamp()
