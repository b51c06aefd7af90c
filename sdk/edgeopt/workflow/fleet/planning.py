"""Plans a rollout: asks every board what the release would mean there, and freezes the answers."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from edgeopt.core.fleet import Board, Caps
from edgeopt.core.release import Release
from edgeopt.core.rollout import REFUSED, GatePolicy, Plan
from edgeopt.errors import DeviceError, RunnerError, UsageError
from edgeopt.fleet.plan import Forecast, build_plan, sealed
from edgeopt.fleet.windows import opens_at
from edgeopt.workflow.fleet.engine_port import Connect, Order, Preflight
from edgeopt.workflow.fleet.publishing import Published

_ASKING_FENCE = 1 << 53
"""A question orders nothing: the highest fence that a board reads passes whatever it holds, and it does not keep it."""

_PASSING = frozenset({"busy", "locked"})
_USUAL_BYTES_PER_SECOND = 10e6
_START_SECONDS = 4.0
_LAUNCHES = 4
"""Health runs of an update: the release of before and the new one, in turns, twice each."""


@dataclass(frozen=True)
class Question:
    """What is asked of every board.

    Attributes:
        published: The release.
        boards: Those that the operator selected.
        waves: Words of `fleet.waves`.
        gate: When the next wave may begin.
        caps: How much at once.
        insecure_unsigned: Whether boards may do without signatures.
        now: Seconds since the epoch, for windows.
        notes: What is said of single boards beside their answers, by name.
    """

    published: Published
    boards: Sequence[Board]
    waves: tuple[str, ...]
    gate: GatePolicy
    caps: Caps
    insecure_unsigned: bool = False
    now: float = 0.0
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def make_plan(
    question: Question, connect: Connect, *, heard: Callable[[str, Forecast], None] = lambda _, __: None
) -> Plan:
    """Ask every board, and build the plan; nothing is changed there.

    Args:
        question: What is asked.
        connect: Reaches a board by its name.
        heard: Told of each answer; called from several threads, one at a time.

    Returns:
        The frozen plan; a board that cannot be reached is ``unknown`` and takes part.

    Raises:
        UsageError: A wave names no board.
        EdgeoptError: Something that no board is to blame for: a file of the release is gone, a key is missing.
    """
    forecasts = _ask_all(question, connect, heard)
    release = question.published.release
    plan = build_plan(
        release.name,
        question.published.manifest,
        question.boards,
        forecasts,
        waves=question.waves,
        terms=(question.gate, question.caps),
    )
    return sealed(dataclasses.replace(plan, insecure_unsigned=True)) if question.insecure_unsigned else plan


def _ask_all(question: Question, connect: Connect, heard: Callable[[str, Forecast], None]) -> Mapping[str, Forecast]:
    jumps: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(question.caps.per_jump))
    lock = threading.Lock()

    def ask(board: Board) -> tuple[str, Forecast]:
        with jumps[board.device.jump] if board.device.jump else contextlib.nullcontext():
            found = _forecast(board, question, connect)
        if note := question.notes.get(board.name):
            found = dataclasses.replace(found, reason="; ".join(filter(None, (found.reason, note))))
        with lock:
            heard(board.name, found)
        return board.name, found

    workers = max(1, min(question.caps.concurrency, len(question.boards)))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        return dict(pool.map(ask, question.boards))


def _forecast(board: Board, question: Question, connect: Connect) -> Forecast:
    release = question.published.release
    if board.profile not in release.entries:
        there = ", ".join(release.entries)
        what = f"profile {board.profile!r}" if board.profile else "a board without a profile"
        return Forecast("skip", f"the release has nothing for {what} (it has: {there})")
    try:
        with connect(board.name) as port:
            if not question.insecure_unsigned:
                port.bring_trust()
            found = port.preflight(_order(board, question))
            offset = port.utc_offset_seconds() if board.window and not board.zone else None
    except RunnerError as error:
        return _refused(str(error), error.status, None)
    except DeviceError as error:
        return Forecast("unknown", str(error))
    foreseen = _foreseen(found, board, release, question.caps)
    return _in_window(foreseen, board, question.now, offset) if foreseen.action == "update" else foreseen


def _order(board: Board, question: Question) -> Order:
    published = question.published
    return Order(
        rollout="plan",
        board=board.name,
        app=published.release.app,
        version=published.release.version,
        manifest=published.manifest,
        target=published.target,
        profile=board.profile,
        fence=_ASKING_FENCE,
        insecure_unsigned=question.insecure_unsigned,
    )


def _foreseen(found: Preflight, board: Board, release: Release, caps: Caps) -> Forecast:
    before = found.before.version if found.before else ""
    if found.action == "refuse":
        return _refused(found.reason, found.code, found)
    if found.action != "update":
        return Forecast(found.action, found.reason, 0, found.free_bytes, None, before)
    seconds = _seconds(found.send_bytes, board, release, caps)
    return Forecast("update", found.reason, found.send_bytes, found.free_bytes, seconds, before)


def _in_window(foreseen: Forecast, board: Board, now: float, offset_seconds: float | None) -> Forecast:
    """The forecast with when the board's window opens, where it is closed now; one that has passed leaves it out."""
    if board.window is None:
        return foreseen
    own = dt.timezone(dt.timedelta(seconds=offset_seconds or 0.0))
    zone = ZoneInfo(board.zone) if board.zone else own
    try:
        opens = opens_at(board.window, now, zone)
    except UsageError as error:
        return dataclasses.replace(foreseen, action="skip", reason=f"{REFUSED}{error}", send_bytes=0, seconds=None)
    if opens <= now:
        return foreseen
    local = dt.datetime.fromtimestamp(opens, zone)
    waits = f"its window opens {local:%Y-%m-%d %H:%M} there"
    return dataclasses.replace(foreseen, reason="; ".join(filter(None, (foreseen.reason, waits))))


def _refused(reason: str, code: str, found: Preflight | None) -> Forecast:
    """A board with something wrong: left out, unless it may be over when its wave begins."""
    action: Literal["unknown", "skip"] = "unknown" if code in _PASSING else "skip"
    before = found.before.version if found and found.before else ""
    free_bytes = found.free_bytes if found else None
    return Forecast(action, f"{REFUSED}{reason}" + (f" ({code})" if code else ""), 0, free_bytes, None, before)


def _seconds(send_bytes: int, board: Board, release: Release, caps: Caps) -> float:
    """About how long: sending at the rate that is allowed, starting the runtime, and the health runs."""
    entry = release.entries[board.profile]
    rate = min(_USUAL_BYTES_PER_SECOND, float(caps.bytes_per_second or _USUAL_BYTES_PER_SECOND))
    median_ns = entry.measured.median_ns if entry.measured else 0
    return round(send_bytes / rate + _LAUNCHES * (_START_SECONDS + entry.health.runs * median_ns / 1e9), 1)
