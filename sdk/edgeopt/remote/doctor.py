"""Examines a device: everything that a deployment needs, each with what was found and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeopt import errors
from edgeopt.core.device import Device, DeviceFacts
from edgeopt.remote.client import Connection, connect

_LEAST_DISK_BYTES = 512 << 20
_LEAST_MEMORY_BYTES = 256 << 20
_MOST_SKEW_SECONDS = 300.0
_HOT_CELSIUS = 80.0
_STEADY_GOVERNORS = ("", "performance", "schedutil", "userspace")


@dataclass(frozen=True)
class Check:
    """One examined thing.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it should be.
        detail: What was found.
        remedy: What to do about it; empty where it is fine.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


_STEPS = ("reachable", "host key", "login", "shell", "Python", "folder")
"""What connecting goes through, in order."""

_FAILS_AT: tuple[tuple[type[errors.EdgeoptError], str], ...] = (
    (errors.UnknownHostKeyError, "host key"),
    (errors.ChangedHostKeyError, "host key"),
    (errors.AuthenticationError, "login"),
    (errors.ProvisionError, "Python"),
    (errors.RemoteDiskError, "folder"),
    (errors.ProtocolError, "shell"),
    (errors.RunnerError, "folder"),
    (errors.EdgeoptError, "reachable"),
)


def examine(device: Device, *, known_hosts: Path | None = None) -> tuple[Check, ...]:
    """Look at everything that can be looked at; a sick device is an answer, not an error.

    Args:
        device: The device.
        known_hosts: Pinned host keys; edgeopt's own by default.
    """
    try:
        with connect(device, known_hosts=known_hosts) as connection:
            found = _connected(connection)
            facts = connection.probe()
    except errors.EdgeoptError as error:
        return _failed(error)
    return (*found, *_judged(facts))


def _failed(error: errors.EdgeoptError) -> tuple[Check, ...]:
    """The steps up to the one that failed."""
    failing = next(step for kind, step in _FAILS_AT if isinstance(error, kind))
    passed = [Check(step, True, "yes") for step in _STEPS[: _STEPS.index(failing)]]
    return (*passed, Check(failing, False, error.message, error.remedy))


def _connected(connection: Connection) -> tuple[Check, ...]:
    device, placed = connection.device, connection.placed
    where = "this machine" if device.transport == "local" else f"{device.host} answers"
    skew = placed.clock_skew_seconds
    noise = f"prints {placed.noise[:60]!r} at login, which does no harm" if placed.noise else "quiet"
    return (
        Check("reachable", True, where),
        Check("host key", True, "no SSH" if device.transport == "local" else "the pinned one"),
        Check("login", True, "accepted"),
        Check("shell", True, noise),
        Check("Python", True, f"{placed.version} at {placed.python}"),
        Check("folder", True, f"{placed.root} can be written"),
        Check("file transfer", True, "through the runner; sftp is not needed"),
        Check(
            "clock",
            abs(skew) <= _MOST_SKEW_SECONDS,
            f"{skew:+.1f} s against this computer",
            "" if abs(skew) <= _MOST_SKEW_SECONDS else "Set it (timedatectl); measurements do not depend on it.",
        ),
    )


def _judged(facts: DeviceFacts) -> tuple[Check, ...]:
    return tuple(judge(facts) for judge in _JUDGES)


def _disk(facts: DeviceFacts) -> Check:
    ok = facts.disk_free_bytes >= _LEAST_DISK_BYTES
    detail = f"{facts.disk_free_bytes / 1e9:.1f} GB free"
    return Check("disk", ok, detail, "" if ok else "Free some, or choose another --root.")


def _memory(facts: DeviceFacts) -> Check:
    ok = facts.memory_available_bytes >= _LEAST_MEMORY_BYTES
    detail = f"{facts.memory_available_bytes / 1e6:.0f} of {facts.memory_bytes / 1e6:.0f} MB available"
    return Check("memory", ok, detail, "" if ok else "End what else runs there.")


def _runtimes(facts: DeviceFacts) -> Check:
    names = ", ".join(f"{runtime.name} {runtime.version}" for runtime in facts.runtimes)
    return Check(
        "runtimes", bool(names), names or "none", "" if names else "Install one: edgeopt device provision NAME."
    )


def _governor(facts: DeviceFacts) -> Check:
    ok = facts.governor in _STEADY_GOVERNORS
    detail = facts.governor or "none to set"
    return Check("governor", ok, detail, "" if ok else "Clocks vary with load: set `performance` while measuring.")


def _temperature(facts: DeviceFacts) -> Check:
    celsius = facts.temperature_celsius
    ok = celsius is None or celsius < _HOT_CELSIUS
    detail = "no sensor" if celsius is None else f"{celsius:.0f} °C"
    return Check("temperature", ok, detail, "" if ok else "Cool it: a hot board throttles.")


_JUDGES: tuple[Callable[[DeviceFacts], Check], ...] = (_disk, _memory, _runtimes, _governor, _temperature)
