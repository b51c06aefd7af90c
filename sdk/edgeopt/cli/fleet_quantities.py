"""Reads the quantities of a fleet that people type: `90d`, `10m`, `5%`, `5MB/s`, `1,10%,100%`."""

from __future__ import annotations

import re

from edgeopt.cli.quantities import parse_bytes
from edgeopt.errors import UsageError

_SPANS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"


def parse_span(text: str, option: str, *, zero: bool = False) -> float:
    """`90s`, `10m`, `2h`, `90d`: seconds; `zero`: `0` is one too.

    Raises:
        UsageError: Not a positive time with a unit.
    """
    if zero and re.fullmatch(r"0\s*\w?", text.strip()):
        return 0.0
    match = re.fullmatch(_NUMBER + r"\s*(s|min|m|h|d|w)", text.strip().lower())
    if match is None or float(match.group(1)) <= 0:
        raise UsageError(f"{option} {text!r} is not a time with a unit.", remedy=f"Say {option} 10m, 2h or 90d.")
    return float(match.group(1)) * _SPANS[match.group(2)]


def parse_share(text: str, option: str, *, most: float = 1.0) -> float:
    """`5%` and `0.05` are one twentieth; above 1 it needs the `%`, since `50` was never meant to be fifty times.

    Raises:
        UsageError: Not a number, above `most`, or above 1 without `%`.
    """
    match = re.fullmatch(_NUMBER + r"\s*(%)?", text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r} is not a share.", remedy=f"Say {option} 5%.")
    value = float(match.group(1)) / (100 if match.group(2) else 1)
    if value > 1 and not match.group(2):
        raise UsageError(f"{option} {text!r} is more than 100%.", remedy=f"Did you mean {text.strip()}%? 0.05 is 5%.")
    if value > most:
        raise UsageError(f"{option} {text!r} is more than {most * 100:g}%.", remedy=f"At most {most * 100:g}%.")
    return value


def parse_rate(text: str, option: str) -> int:
    """`5MB/s`: bytes a second.

    Raises:
        UsageError: Not a size a second.
    """
    size, slash, unit = text.strip().rpartition("/")
    if not slash or unit.strip().lower() not in ("s", "sec", "second"):
        raise UsageError(f"{option} {text!r} is not a rate.", remedy=f"Say {option} 5MB/s.")
    return parse_bytes(size, option)


def parse_list(text: str, option: str) -> tuple[str, ...]:
    """`1,10%,100%`: words between commas.

    Raises:
        UsageError: One of them is empty.
    """
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise UsageError(f"{option} {text!r} has an empty place.", remedy=f"Say {option} 1,10%,100%.")
    return words


def parse_pairs(texts: list[str], option: str) -> dict[str, str]:
    """`NAME=VALUE`, each name once.

    Raises:
        UsageError: Not of that form, or a name twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} {text!r} is not NAME=VALUE.", remedy=f"Say {option} pi5=RUN.")
        if name in found:
            raise UsageError(f"{option} names {name!r} twice.", remedy="Give each name once.")
        found[name] = value
    return found
