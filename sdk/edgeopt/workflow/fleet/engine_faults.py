"""Points at which a test has the host killed: `$EDGEOPT_HOST_FAULT` names one, and which time it is passed."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

VARIABLE = "EDGEOPT_HOST_FAULT"

POINTS = {
    "lease.before": "nobody drives the rollout",
    "lease.after": "the lease is ours, nothing is begun",
    "begin.before": "the first wave is decided, not written",
    "begin.after": "the first boards are leased, none is begun",
    "boards.before": "boards have got further, which is not written",
    "boards.after": "it is written; boards that were leased are not begun",
    "gate.before": "a gate has judged, which is not written",
    "gate.after": "it is written; the next wave is leased, not begun",
    "soak.before": "a wave is to be watched, which is not written",
    "soak.after": "it is written",
    "end.before": "the rollout has ended, which is not written",
    "end.after": "it is written; the lease is still ours",
    "board.connected": "a board is reached, nothing is asked",
    "board.trusted": "it has fresh metadata",
    "board.checked": "its preflight is done",
    "board.sent": "it has the files, nothing is ordered",
    "board.ordered": "the update is over there, and nobody here knows",
    "board.verified": "it was asked what it runs, and nobody here knows",
}
"""Every point by name, with what is true there."""

_passed: Counter[str] = Counter()
_lock = threading.Lock()


def point(name: str) -> None:
    """End this process, as ``kill -9`` does, where `$EDGEOPT_HOST_FAULT` asks for it; else nothing.

    Raises:
        KeyError: A point that is not in `POINTS`.
    """
    if name not in POINTS:
        raise KeyError(f"no fault point {name!r}")
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    where, _, number = wanted.partition(":")
    if where == name:
        with _lock:
            _passed[name] += 1
            if _passed[name] == int(number or 1):
                os.kill(os.getpid(), signal.SIGKILL)
