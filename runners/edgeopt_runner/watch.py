"""Watches the board from another process while a model is measured, so that the timed one stays undisturbed.

Available memory falls and comes back within a tenth of a second; clocks, heat and power are looked at more seldom.
"""

import json
import os
import select
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from edgeopt_runner import memory, power, rails, raspberry, thermal
from edgeopt_runner.board import THIS, Board
from edgeopt_runner.latency import median

FELL_SHARE = 0.85
"""A clock that ends below this share of what it began with fell; a governor's play is within a few percent."""

_STEP_SECONDS = 0.1
_LOOK_STEPS = 4
_FULL_LOOK = 5
"""Every so many looks all is looked at, in the others only the clocks: on a small board the rest takes a while."""

_LEAST_LOOKS = 9
_MOST_LOOKS = 20000


class Seen:
    """What the watch saw.

    Attributes:
        lowest_bytes: The lowest MemAvailable; ``None`` where the board does not say.
        looks: By moment: ``at`` (seconds of the monotonic clock), ``khz`` (fastest core), ``celsius``, ``pi``
            (throttle bits), ``milliwatts``; each may be ``None``.
    """

    def __init__(self, lowest_bytes: Optional[int], looks: List[Dict[str, Any]]) -> None:
        self.lowest_bytes = lowest_bytes
        self.looks = looks

    def between(self, start: float, end: float) -> List[Dict[str, Any]]:
        """The looks from one moment of the monotonic clock to another."""
        return [look for look in self.looks if start <= look["at"] <= end]


class Watch:
    """The watching process.

    It is forked before anything heavy is loaded, and ends when our end of its pipe closes, however we end.
    """

    def __init__(self, board: Board = THIS) -> None:
        stop_read, self._stop = os.pipe()
        self._answer, answer_write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _watch(board, stop_read, answer_write)
            finally:
                os._exit(0)
        os.close(stop_read)
        os.close(answer_write)

    def end(self) -> Seen:
        """End the watch and return what it saw."""
        os.close(self._stop)
        with os.fdopen(self._answer, "rb") as stream:
            text = stream.read()
        os.waitpid(self._pid, 0)
        found = json.loads(text.decode("ascii")) if text else {"lowest_bytes": None, "looks": []}
        return Seen(found["lowest_bytes"], found["looks"])


def _watch(board: Board, stop: int, answer: int) -> None:
    """Look until the other end of `stop` closes; no other descriptor of the worker may be held open here."""
    kept = sorted([stop, answer])
    os.closerange(3, kept[0])
    os.closerange(kept[0] + 1, kept[1])
    os.closerange(kept[1] + 1, 4096)
    looks: List[Dict[str, Any]] = []
    lowest, steps = memory.available_bytes(board), 0
    clocks = power.clock_files(board)
    while not select.select([stop], [], [], _STEP_SECONDS)[0]:
        now, steps = memory.available_bytes(board), steps + 1
        if now is not None and (lowest is None or now < lowest):
            lowest = now
        if steps % _LOOK_STEPS == 0 and len(looks) < _MOST_LOOKS:
            looks.append(look(clocks, len(looks) % _FULL_LOOK == 0, board))
    with os.fdopen(answer, "wb") as stream:
        stream.write(json.dumps({"lowest_bytes": lowest, "looks": looks}).encode("ascii"))


def look(clocks: Sequence[str], full: bool = True, board: Board = THIS) -> Dict[str, Any]:
    """One look, by files alone: a vendor's tool would take a core's time from what is measured.

    Args:
        clocks: Files with the clocks of now.
        full: Whether heat, throttle bits and power are looked at too.
        board: Where they are.
    """
    kilohertz = [value for value in (board.number(path) for path in clocks) if value is not None]
    found: Dict[str, Any] = {"at": time.monotonic(), "khz": _of(max, kilohertz)}
    drawn = rails.read(board, commands=False) if full else None
    found["celsius"] = thermal.temperature(board, commands=False) if full else None
    found["pi"] = raspberry.throttled(board, commands=False) if full else None
    found["milliwatts"] = drawn["milliwatts"] if drawn else None
    return found


def summary(looks: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """What the looks during the measured phase say, for the evidence.

    Returns:
        ``looks`` (their number), ``first_khz`` and ``last_khz`` (medians of the first and last third), ``lowest_khz``,
        ``hottest_celsius``, ``pi_throttled`` (all bits that were ever set), ``milliwatts`` (mean); ``None`` where
        nothing was seen.
    """
    clocks = _known(looks, "khz")
    third = max(1, len(clocks) // 3)
    bits = _known(looks, "pi")
    drawn = _known(looks, "milliwatts")
    return {
        "looks": len(looks),
        "first_khz": int(median(clocks[:third])) if clocks else None,
        "last_khz": int(median(clocks[-third:])) if clocks else None,
        "lowest_khz": _of(min, clocks),
        "hottest_celsius": _of(max, _known(looks, "celsius")),
        "pi_throttled": _any_bit(bits) if bits else None,
        "milliwatts": round(sum(drawn) / len(drawn), 1) if drawn else None,
    }


def clocks_fell(found: Dict[str, Any]) -> bool:
    """Whether the fastest core ended a phase of steady load well below the clock that it began with.

    Args:
        found: A `summary` of the phase. One of fewer than nine looks is too short to tell.
    """
    first, last = found.get("first_khz"), found.get("last_khz")
    return bool(found["looks"] >= _LEAST_LOOKS and first and last and last < FELL_SHARE * first)


def _known(looks: Sequence[Dict[str, Any]], name: str) -> List[Any]:
    return [look[name] for look in looks if look[name] is not None]


def _of(choose: Callable[[List[Any]], Any], values: List[Any]) -> Any:
    return choose(values) if values else None


def _any_bit(values: List[int]) -> int:
    found = 0
    for value in values:
        found |= value
    return found
