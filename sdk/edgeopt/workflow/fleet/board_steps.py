"""The way of one board through a rollout: reach it, trust, preflight, send, update, and see what really runs there."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from edgeopt.core.fleet import Window
from edgeopt.core.rollout import BoardProgress, BoardState, FailureClass
from edgeopt.errors import (
    AuthenticationError,
    BusyError,
    ChangedHostKeyError,
    ConnectError,
    DeviceError,
    LinkLostError,
    ProtocolError,
    RemoteDiskError,
    RunnerError,
    UnknownDeviceError,
    UnknownHostKeyError,
    UsageError,
)
from edgeopt.fleet.windows import opens_at
from edgeopt.workflow.fleet.engine_faults import point
from edgeopt.workflow.fleet.engine_port import BoardPort, Connect, OnBytes, Order, Outcome, Preflight, Throttle

Tell = Callable[[BoardProgress], None]

_TRUST = frozenset({"bad_signature", "rollback_attack", "expired", "stale", "bad_metadata", "not_enrolled", "unsigned"})
_CLASSES: dict[str, FailureClass] = {
    **dict.fromkeys(_TRUST, "verify"),
    **dict.fromkeys(("busy", "locked", "fenced"), "busy"),
    **dict.fromkeys(("digest_mismatch", "truncated", "bad_manifest"), "verify"),
    **dict.fromkeys(("disk_full", "read_only", "missing_object"), "stage"),
    **dict.fromkeys(("health_failed",), "health"),
    **dict.fromkeys(("bad_request", "unknown_verb", "unknown_job"), "protocol"),
}
_CUT_SHORT = frozenset({"lost", "rebooted", "crash", "cancelled", "oom", "memory_guard", "process_guard"})
_MOST_CUT_SHORT = 3
"""Ends of a job that say nothing of the release the first time: the board lost power, or somebody killed it."""

_PHASES: dict[str, BoardState] = {
    "preflight": "staged", "verify": "staged", "stage": "staged", "staging": "staged", "smoke": "staged",
    "activate": "activated", "activating": "activated", "switch": "activated", "activated": "activated",
    "health": "activated", "commit": "healthy", "committing": "healthy", "collect": "healthy",
}  # fmt: skip


@dataclass(frozen=True)
class Errand:
    """One board's part of a rollout, as its thread takes it.

    Attributes:
        progress: How far the board is, already leased.
        order: What it is told.
        may_order: Whether it may still be told to change anything.
        throttle: Asked before bytes leave.
        on_bytes: Told of bytes that arrived.
        tell: Told of every state on the way.
        window: When the board may be changed; ``None``: at any time.
        zone: The window's; ``None``: the board's own, which only the board knows.
        now: Seconds since the epoch.
    """

    progress: BoardProgress
    order: Order
    may_order: Callable[[], bool]
    throttle: Throttle
    on_bytes: OnBytes
    tell: Tell
    window: Window | None = None
    zone: dt.tzinfo | None = None
    now: Callable[[], float] = lambda: 0.0


def update_board(errand: Errand, connect: Connect) -> BoardProgress:
    """Take a board as far as it comes, and say how far that is.

    What it was told before is asked for first: a driver that went away may have got further than it could write down.
    """
    try:
        with connect(errand.progress.board) as port:
            point("board.connected")
            return _Way(errand, port).walk()
    except (DeviceError, UsageError) as error:
        return _failed(errand.progress, error)


def recheck_board(errand: Errand, connect: Connect) -> BoardProgress:
    """Measure a board that committed once more, at the end of the soak."""
    progress = errand.progress
    try:
        with connect(progress.board) as port:
            missing = _not_running(port, errand.order)
            if missing:
                return dataclasses.replace(progress, state="failed", failure="health", detail=missing)
            found = port.recheck(errand.order)
    except (DeviceError, UsageError) as error:
        return _failed(progress, error)
    if found.outcome == "committed" and found.after is not None:
        return dataclasses.replace(progress, soaked=found.after)
    if found.outcome == "inconclusive":
        disturbed = dataclasses.replace(found.after, disturbed=found.reason or "disturbed") if found.after else None
        return dataclasses.replace(progress, soaked=disturbed or progress.after, detail=found.reason)
    return dataclasses.replace(progress, state="failed", failure="health", detail=f"after the soak: {found.reason}")


class _Way:
    """The steps, in their order."""

    def __init__(self, errand: Errand, port: BoardPort) -> None:
        self._errand, self._port, self._order = errand, port, errand.order
        self._progress = errand.progress

    def walk(self) -> BoardProgress:
        outcome = self._port.collect(self._order, self._phase) if self._progress.attempts > 1 else None
        if outcome is None:
            stays = self._stays()
            if stays is not None:
                return stays
            outcome = self._port.update(self._order, self._phase)
            point("board.ordered")
        return self._settled(outcome)

    def _stays(self) -> BoardProgress | None:
        """Everything before the order; how the board stands where none is given."""
        if not self._errand.may_order():
            return self._as("pending", detail="nothing was begun")
        if (closed := self._outside_window()) is not None:
            return closed
        self._tell("preflight")
        if not self._order.insecure_unsigned:
            self._port.bring_trust()
        point("board.trusted")
        found = self._port.preflight(self._order)
        point("board.checked")
        if found.action != "update":
            return self._needs_nothing(found)
        self._tell("sending")
        sent = self._port.send(self._order, found, self._errand.throttle, self._errand.on_bytes)
        self._progress = dataclasses.replace(self._progress, sent_bytes=self._progress.sent_bytes + sent)
        point("board.sent")
        if not self._errand.may_order():
            return self._as("pending", detail="the files are there; nothing was changed")
        if (closed := self._outside_window()) is not None:  # it closed while the files were on their way
            return closed
        self._tell("staged")
        return None

    def _outside_window(self) -> BoardProgress | None:
        """The board as it waits for its window; ``None`` while that is open."""
        window, now = self._errand.window, self._errand.now()
        if window is None:
            return None
        own = dt.timezone(dt.timedelta(seconds=self._port.utc_offset_seconds() or 0.0))
        opens = opens_at(window, now, self._errand.zone or own)
        if opens <= now:
            return None
        return dataclasses.replace(self._as("waiting", detail="its window is closed"), retry_at=opens)

    def _needs_nothing(self, found: Preflight) -> BoardProgress:
        if found.action == "nothing":
            missing = _not_running(self._port, self._order)
            if missing:
                return self._as("failed", "health", missing)
            self._progress = dataclasses.replace(self._progress, version=self._order.version)
            return self._as("committed", detail=found.reason or "it runs the release already")
        if found.action == "skip":
            return self._as("skipped", detail=found.reason or found.code)
        return self._refused(found.code, found.reason, "preflight")

    def _refused(self, code: str, reason: str, otherwise: FailureClass) -> BoardProgress:
        kind = _CLASSES.get(code, otherwise)
        detail = f"{reason} ({code})" if code else reason
        return self._as("unreachable" if kind == "busy" else "failed", kind, detail)

    def _settled(self, outcome: Outcome) -> BoardProgress:
        before = outcome.before or self._progress.before
        self._progress = dataclasses.replace(
            self._progress, before=before, after=outcome.after, version=outcome.version
        )
        if outcome.outcome in ("committed", "nothing"):
            missing = _not_running(self._port, self._order)
            point("board.verified")
            return self._as("failed", "health", missing) if missing else self._as("committed", detail=outcome.reason)
        self._progress = dataclasses.replace(self._progress, orders=self._progress.orders + 1)
        if outcome.outcome == "skipped":
            return self._as("skipped", detail=outcome.reason or outcome.code)
        if outcome.outcome == "inconclusive":
            return self._as("unreachable", "busy", outcome.reason or "its measurements say nothing")
        if outcome.outcome == "aborted":
            return self._refused(outcome.code, outcome.reason, _class_of(outcome.step or outcome.code))
        stopped = outcome.outcome == "safe_stop"
        return self._as(
            "bricked" if stopped else "rolled_back", "rollback" if stopped else "health", outcome.reason or outcome.code
        )

    def _phase(self, phase: str) -> None:
        state = _PHASES.get(phase)
        if state is not None and state != self._progress.state:
            self._tell(state)

    def _tell(self, state: BoardState) -> None:
        self._progress = dataclasses.replace(self._progress, state=state, detail="", failure="")
        self._errand.tell(self._progress)

    def _as(self, state: BoardState, failure: FailureClass = "", detail: str = "") -> BoardProgress:
        return dataclasses.replace(self._progress, state=state, failure=failure, detail=detail)


def _class_of(code: str) -> FailureClass:
    """The kind of failure of a step, or of a code that names one: ``smoke``, ``health_failed``."""
    steps: tuple[FailureClass, ...] = ("preflight", "verify", "stage", "smoke", "health", "rollback")
    return next((kind for kind in steps if code.startswith(kind)), "stage")


def _not_running(port: BoardPort, order: Order) -> str:
    """Why a board that says that it has the release has not; empty where it has: active, and its files are whole."""
    found = port.release(order.app)
    if found is None:
        return f"it says that it has {order.app}, and has nothing"
    if found.manifest != order.manifest:
        return f"it says that it has {order.version}, and {found.version or 'something else'} is active"
    if found.state != "idle":
        return f"it says that it has {order.version}, and is in {found.state}"
    return "" if found.verified else f"the files of {order.version} there are not those of the release"


def _failed(progress: BoardProgress, error: DeviceError | UsageError) -> BoardProgress:
    """The board as its error leaves it: away where it may be tried again or was never reached, else failed."""
    if isinstance(error, RunnerError) and error.status.partition(":")[0] in _CUT_SHORT | {"timeout"}:
        again = progress.orders + 1 < _MOST_CUT_SHORT
        ended = dataclasses.replace(progress, orders=progress.orders + 1, detail=str(error))
        return dataclasses.replace(
            ended, state="unreachable" if again else "failed", failure="network" if again else "health"
        )
    kind = _kind(error)
    away = kind in ("", "network", "busy", "auth", "hostkey")
    return dataclasses.replace(progress, state="unreachable" if away else "failed", failure=kind, detail=str(error))


def _kind(error: DeviceError | UsageError) -> FailureClass:
    if isinstance(error, (UnknownDeviceError, UsageError)):
        return ""
    if isinstance(error, (UnknownHostKeyError, ChangedHostKeyError)):
        return "hostkey"
    if isinstance(error, AuthenticationError):
        return "auth"
    if isinstance(error, BusyError):
        return "busy"
    if isinstance(error, (ConnectError, LinkLostError)):
        return "network"
    if isinstance(error, RemoteDiskError):
        return "stage"
    if isinstance(error, RunnerError):
        return _CLASSES.get(error.status, "preflight")
    return "protocol" if isinstance(error, ProtocolError) else "stage"
