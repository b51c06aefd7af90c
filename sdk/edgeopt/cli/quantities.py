"""Reads the quantities that people type: `1%`, `p90 20 ms`, `200MB`, `x=1,3,224,224`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from edgeopt.core.budget import LatencyLimit, Statistic
from edgeopt.errors import UsageError

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"


def parse_drop(text: str) -> float | None:
    """`1%`, `1pt` and `0.01` are one hundredth of the metric; `none` is no limit.

    Raises:
        UsageError: Not a number, or outside 0 to 1.
    """
    if text.strip().lower() == "none":
        return None
    match = re.fullmatch(_NUMBER + r"\s*(%|pt|pts|points?)?", text.strip().lower())
    if match is None:
        raise UsageError(f"--max-drop {text!r} is not an accuracy loss.", remedy="Say 1%, 0.01 or none.")
    value = float(match.group(1)) / (100 if match.group(2) else 1)
    if value > 1:
        raise UsageError(
            f"--max-drop {text!r} is more than the whole metric.", remedy=f"Did you mean {text.strip()}%? 0.01 is 1%."
        )
    return value


def parse_latency(text: str) -> LatencyLimit:
    """`20ms` bounds the median, `p90 20 ms` another statistic.

    Raises:
        UsageError: Unknown statistic or unit, or not a positive time.
    """
    statistics = get_args(Statistic)
    match = re.fullmatch(rf"(?:([a-z]\w*)\s*(?:<=|<|:|=)?\s+)?{_NUMBER}\s*(ns|us|µs|ms|s)", text.strip().lower())
    if match is None:
        raise UsageError(f"--max-latency {text!r} is not a time with a unit.", remedy='Say 20ms or "p90 20 ms".')
    name = match.group(1) or "median"
    if name not in statistics:
        raise UsageError(f"--max-latency knows no statistic {name!r}.", remedy=f"Use one of {', '.join(statistics)}.")
    limit_ns = round(float(match.group(2)) * _SECONDS[match.group(3)] * 1e9)
    if limit_ns <= 0:
        raise UsageError(f"--max-latency {text!r} is not above zero.", remedy='Say 20ms or "p90 20 ms".')
    return LatencyLimit(statistic=name, limit_ns=limit_ns)  # type: ignore[arg-type]


def parse_duration(text: str, option: str) -> float:
    """`90s`, `30min`, `2h`: seconds.

    Raises:
        UsageError: Not a positive time with a unit.
    """
    match = re.fullmatch(_NUMBER + r"\s*(s|min|h)", text.strip().lower())
    if match is None or float(match.group(1)) <= 0:
        raise UsageError(f"{option} {text!r} is not a time with a unit.", remedy="Say 90s, 30min or 2h.")
    return float(match.group(1)) * {"s": 1, "min": 60, "h": 3600}[match.group(2)]


def parse_bytes(text: str, option: str) -> int:
    """`200MB`, `512 KiB`, `1.5GB`; decimal and binary units as written.

    Raises:
        UsageError: Not a positive size.
    """
    match = re.fullmatch(_NUMBER + r"\s*([a-zA-Z]*)", text.strip())
    if match is None or match.group(2).upper() not in _BYTES:
        raise UsageError(f"{option} {text!r} is not a size.", remedy="Say 200MB, 512KiB or 1.5GB.")
    value = round(float(match.group(1)) * _BYTES[match.group(2).upper()])
    if value <= 0:
        raise UsageError(f"{option} {text!r} is not above zero.", remedy="Say 200MB, 512KiB or 1.5GB.")
    return value


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`name=1,3,224,224`, one for each input.

    Raises:
        UsageError: No name, sizes that are not positive integers, or a name given twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.partition("=")
        if not re.fullmatch(r"\d+(?:[,x]\d+)*", sizes) or not name:
            raise UsageError(f"--input {text!r} is not NAME=SIZES.", remedy="Say --input x=1,3,224,224.")
        shape = tuple(int(size) for size in re.split("[,x]", sizes))
        if 0 in shape:
            raise UsageError(
                f"--input {text!r} has a size of zero.", remedy="Give the size of one sample, batch first."
            )
        if name in shapes:
            raise UsageError(f"--input names {name!r} twice.", remedy="Give each input once.")
        shapes[name] = shape
    return shapes


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """`1,2,4`: positive integers, in order, each once.

    Raises:
        UsageError: Anything else.
    """
    if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", text):
        raise UsageError(f"{option} {text!r} is not a list of numbers.", remedy=f"Say {option} 1,2,4.")
    counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    if 0 in counts:
        raise UsageError(f"{option} {text!r} holds a zero.", remedy=f"Say {option} 1,2,4.")
    return counts
