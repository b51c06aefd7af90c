"""Faults on demand, for tests: named points in the runner that `$EDGEOPT_FAULT` turns into crashes, errors and delays.

``EDGEOPT_FAULT="point:action[=value][@match],..."``; `match` is a prefix of what the point is about (a digest, a
job). Actions: ``kill9``, ``segfault``, ``signal=NAME``, ``exit=CODE``, ``raise=ERRNO_NAME``, ``sleep=SECONDS``,
``print=MIB`` (on stdout), ``allocate=MIB`` (and keep it), ``breed=COUNT`` (processes that sleep, each in a session of
its own), ``deaf=SECONDS`` (sleep, whatever signal comes that may be ignored), ``arm=FAULTS`` (in all that this process
starts from now on; ``+`` stands for the comma).
"""

import errno
import os
import signal
import time
from typing import Dict, List, NamedTuple, Optional

VARIABLE = "EDGEOPT_FAULT"

POINTS = {
    "transfer.before_rename": "an object has arrived and is verified; match: its digest",
    "jobs.submitted": "job.json is written, no supervisor yet; match: the job",
    "supervisor.before_spawn": "the board is ours, no worker yet; match: the job",
    "supervisor.after_spawn": "the worker runs; match: the job",
    "supervisor.before_result": "the end is known, result.json is not written; match: the job",
    "work.start": "first thing in a worker; match: the job's kind",
    "work.phase": "a worker has announced a phase; match: the phase",
    "engine.load": "before a model is loaded; match: the artifact",
    "engine.run": "inside every timed inference; match: the artifact",
    "release.stage": "the journal says staging, no folder yet; match: the app, here and below",
    "release.link": "the temporary folder is there, empty",
    "release.rename": "the release is whole in the temporary folder",
    "release.smoke": "the release has its number, not looked at yet",
    "release.switching": "the release passed its first check, the journal does not say switching yet",
    "release.previous": "the journal says switching, no pointer is moved",
    "release.current": "`previous` is moved, `current` is not",
    "release.switched": "`current` is moved, the journal does not say so",
    "release.health": "the journal says switched, no health check yet",
    "release.commit": "healthy, not committed",
    "release.golden": "healthy, `golden` is not moved to it",
    "release.prune": "committed, old releases are still there",
    "release.returning": "not healthy, the journal does not say returning yet",
    "release.return": "`current` is back, `previous` is not",
    "release.returned": "both pointers are back, the journal does not say so",
    "release.fallback": "the active release is damaged, the journal does not say that it is left",
    "update.fence": "an order of a rollout has passed its checks, its fence is not kept",
    "update.preflight": "the fence is kept, nothing else is done",
    "update.attempt": "the release is about to be tried, the journal does not say so",
    "update.before": "the new release is staged, what runs now is about to be measured beside it",
    "update.collect": "committed and pruned, objects that nobody needs are still there",
    "rebuild.apply": "the temporary file is there, empty; match: the digest that is to be, here and below",
    "rebuild.before_rename": "the file is rebuilt, verified and on the disk, and does not bear its name",
    "trust.root": "a root is verified, not kept; match: its version, here and below",
    "trust.memory": "the metadata are verified, the nonce is not used up",
    "trust.metadata": "the nonce is used up, the metadata are not kept",
    "pull.trusted": "an agent has brought and verified the metadata of its store, nothing else",
    "pull.block": "part of a file from the store is written; match: its digest",
    "pull.patch": "a patch is here, the file that it makes is not; match: the file's digest",
    "pull.blob": "a file of a release is here; match: the app, here and below",
    "pull.submit": "all is here, the agent has written down what it is about to order",
    "pull.done": "the update has ended, the agent has not written that down",
    "environment.rename": "an environment is whole in its temporary folder; match: the key, here and below",
    "environment.switch": "an environment bears its name, `env/current` is not moved",
}
"""Every point by name, with what is true there."""

Fault = NamedTuple("Fault", [("point", str), ("action", str), ("value", str), ("match", str)])

_faults: Optional[Dict[str, List[Fault]]] = None
_kept: List[bytes] = []


def parse(text: str) -> Dict[str, List[Fault]]:
    """Faults by point.

    Raises:
        ValueError: An unknown point or action, or a value that the action cannot use.
    """
    faults: Dict[str, List[Fault]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        rest, _, match = item.partition("@")
        point_name, _, rest = rest.partition(":")
        action, _, value = rest.partition("=")
        if point_name not in POINTS:
            raise ValueError("%s: no point %r; there are %s" % (VARIABLE, point_name, ", ".join(sorted(POINTS))))
        if action not in _ACTIONS:
            raise ValueError("%s: no action %r; there are %s" % (VARIABLE, action, ", ".join(sorted(_ACTIONS))))
        faults.setdefault(point_name, []).append(Fault(point_name, action, value, match))
    return faults


def _load() -> Dict[str, List[Fault]]:
    global _faults
    if _faults is None:
        _faults = parse(os.environ.get(VARIABLE, ""))
    return _faults


def check() -> None:
    """Read `$EDGEOPT_FAULT` now. Raises ValueError when it asks for what does not exist."""
    _load()


def armed(name: str) -> bool:
    """Whether a point has any fault. Raises KeyError for a point that is not in `POINTS`."""
    if name not in POINTS:
        raise KeyError("no fault point %r" % name)
    return name in _load()


def point(name: str, match: str = "") -> None:
    """Do what `$EDGEOPT_FAULT` asks for at this point; nothing when it asks for nothing.

    Args:
        name: A key of `POINTS`.
        match: What the point is about; a fault with a match fires only where that is a prefix of it.

    Raises:
        OSError: From the action ``raise``.
        KeyError: A point that is not in `POINTS`.
    """
    if _faults is not None and not _faults:
        return
    if armed(name):
        for fault in _load()[name]:
            if match.startswith(fault.match):
                _ACTIONS[fault.action](fault.value)


def _segfault(_value: str) -> None:
    import ctypes

    ctypes.string_at(0)


def _raise(value: str) -> None:
    number = getattr(errno, value)
    raise OSError(number, os.strerror(number))


def _signal(value: str) -> None:
    os.kill(os.getpid(), getattr(signal, value))
    time.sleep(1)


def _print(value: str) -> None:
    line = b"noise " * 170 + b"\n"
    for _ in range(int(float(value) * (1 << 20)) // len(line)):
        os.write(1, line)


def _allocate(value: str) -> None:
    _kept.append(b"\x01" * (int(value) << 20))


def _breed(value: str) -> None:
    for _ in range(int(value)):
        if os.fork() == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", "3600"])


def _deaf(value: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(float(value))


def _arm(value: str) -> None:
    os.environ[VARIABLE] = value.replace("+", ",")


_ACTIONS = {
    "kill9": lambda _value: _signal("SIGKILL"),
    "segfault": _segfault,
    "signal": _signal,
    "exit": lambda value: os._exit(int(value or 1)),
    "raise": _raise,
    "sleep": lambda value: time.sleep(float(value)),
    "print": _print,
    "allocate": _allocate,
    "breed": _breed,
    "deaf": _deaf,
    "arm": _arm,
}
