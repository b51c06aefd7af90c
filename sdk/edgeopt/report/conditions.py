"""What the board said of itself around each launch: heat, clock, throttling and load, in words and as charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from edgeopt.core.run import RunRecord
from edgeopt.report import quantities as q
from edgeopt.report.launches import Launch, launches_of, reading
from edgeopt.report.strip import Entry, Strip, strip_of
from edgeopt.report.visible import visible

HEAT_FLAGS = frozenset({"throttled", "clock_suspect", "started_hot"})
"""Flags that say that heat or a weak supply may have made a launch slower."""

Reader = Callable[[Launch], float | None]


def strips(record: RunRecord) -> tuple[Strip, ...]:
    """Temperature and clock over the launches; a chart of which the board told nothing is left out."""
    launches = launches_of(record)
    heat = _strip(launches, "temperature, °C", hottest, coolest)
    clock = _strip(launches, "clock of the fastest core, MHz", megahertz, lowest_megahertz)
    return tuple(strip for strip in (heat, clock) if strip is not None)


def _strip(launches: Sequence[Launch], title: str, high: Reader, low: Reader) -> Strip | None:
    entries = []
    for one in launches:
        flagged = sorted(HEAT_FLAGS.intersection(one.measurement.flags))
        said = f" ({', '.join(flagged).replace('_', ' ')})" if flagged else ""
        value, begin = high(one), low(one)
        figures = " to ".join(q.significant(number) for number in (begin, value) if number is not None)
        tip = f"{one.number}: {one.item.candidate.key}: {figures}{said}"
        kind = "" if value is None else "infeasible" if flagged else "calm"
        entries.append(Entry(value, kind, tip, low=begin if value is not None else None))
    return strip_of(entries, title=title, x_title="launch")


def coolest(one: Launch) -> float | None:
    """Degrees Celsius before the launch."""
    return reading(one.measurement.evidence, "before", "temperature_celsius")


def hottest(one: Launch) -> float | None:
    """The most degrees Celsius that were seen during the launch or after it."""
    evidence = one.measurement.evidence
    seen = (reading(evidence, "watched", "hottest_celsius"), reading(evidence, "after", "temperature_celsius"))
    return max((value for value in seen if value is not None), default=None)


def megahertz(one: Launch) -> float | None:
    """Clock at the end of the measured phase, else the mean over it, else the one of the moment after it."""
    evidence = one.measurement.evidence
    paths = (("watched", "last_khz"), ("difference", "mean_khz"), ("after", "frequency_khz", "current"))
    found = (reading(evidence, *path) for path in paths)
    return next((value / 1000 for value in found if value), None)


def lowest_megahertz(one: Launch) -> float | None:
    """The lowest clock that was seen during the measured phase."""
    lowest = reading(one.measurement.evidence, "watched", "lowest_khz")
    return lowest / 1000 if lowest else None


def sentences(record: RunRecord) -> tuple[str, ...]:
    """Heat, clock, throttling and other load over all launches, a sentence each; empty where nothing was measured."""
    launches = launches_of(record)
    if not launches:
        return ()
    return (
        _range(launches, "Temperature", "°C", hottest, coolest),
        _range(launches, "Clock", "MHz", megahertz, lowest_megahertz),
        _throttling(launches),
        _others(launches),
        *_flags(launches),
    )


def _range(launches: Sequence[Launch], name: str, unit: str, high: Reader, low: Reader) -> str:
    found = [value for one in launches for value in (high(one), low(one)) if value is not None]
    if not found:
        return f"{name}: the board does not tell it."
    least, most = q.significant(min(found)), q.significant(max(found))
    return f"{name}: {least} {unit}." if least == most else f"{name}: {least} to {most} {unit}."


def _throttling(launches: Sequence[Launch]) -> str:
    hit = [str(one.number) for one in launches if HEAT_FLAGS.intersection(one.measurement.flags)]
    if not hit:
        return "Throttling: none was seen."
    numbers = ", ".join(hit[:12]) + (" and more" if len(hit) > 12 else "")
    return f"Throttling: {len(hit)} of {len(launches)} launches were throttled, began hot or lost clock ({numbers})."


def _others(launches: Sequence[Launch]) -> str:
    shares = [share for one in launches if (share := reading(one.measurement.evidence, "others_share")) is not None]
    if not shares:
        return "Other load: not known."
    return f"Other load: up to {max(0.0, max(shares)) * 100:.0f} % of the processors' time during a measurement."


def _flags(launches: Sequence[Launch]) -> tuple[str, ...]:
    counted = Counter(visible(flag, 40) for one in launches for flag in one.measurement.flags)
    if not counted:
        return ("Flags: no launch has one.",)
    told = ", ".join(f"{name.replace('_', ' ')} {count}×" for name, count in sorted(counted.items()))
    return (f"Flags over {len(launches)} launches: {told}.",)
