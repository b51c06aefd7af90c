"""Examines a device: everything that a deployment needs, each with what was found and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt import errors
from edgeopt.core.device import Device, DeviceFacts, PackageFacts
from edgeopt.remote.client import Connection, connect

_LEAST_DISK_BYTES = 512 << 20
_LEAST_MEMORY_BYTES = 256 << 20
_MOST_SKEW_SECONDS = 300.0
_HOT_CELSIUS = 80.0
_USUAL_PAGE_BYTES = 4096
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


Judge = Callable[[DeviceFacts], Check]

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


def examine(device: Device, *, known_hosts: Path | None = None, further: Sequence[Judge] = ()) -> tuple[Check, ...]:
    """Look at everything that can be looked at; a sick device is an answer, not an error.

    Args:
        device: The device.
        known_hosts: Pinned host keys; edgeopt's own by default.
        further: Checks of its facts that need more knowledge than there is here.
    """
    try:
        with connect(device, known_hosts=known_hosts) as connection:
            found = _connected(connection)
            facts = connection.probe()
    except errors.EdgeoptError as error:
        return _failed(error)
    return (*found, *_judged(facts), *(judge(facts) for judge in further))


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


_CURES = (
    ("under-voltage", "use the supply that the board's maker sells and a short cable"),
    ("frequency capped", "use a stronger supply and a heat sink or fan"),
    ("throttled", "use a stronger supply and a heat sink or fan"),
    ("soft temperature limit", "fit a heat sink or fan"),
    ("alarm", "look at the board's supply and cooling"),
)


def _alarms(facts: DeviceFacts) -> Check:
    """What is wrong with power or heat; what was since boot may be over, and is only cleared by a boot."""
    cures = dict.fromkeys(cure for word, cure in _CURES if any(word in alarm for alarm in facts.alarms))
    remedy = f"Measurements are not its own speed: {'; '.join(cures) or 'look at its supply and cooling'}."
    if facts.alarms and all(alarm.endswith("since boot") for alarm in facts.alarms):
        remedy += " It is over now; a reboot clears it."
    return Check(
        "power and heat", not facts.alarms, ", ".join(facts.alarms) or "no alarm", remedy if facts.alarms else ""
    )


def _userland(facts: DeviceFacts) -> Check:
    mixed = facts.bits == 32 and facts.kernel_bits == 64
    detail = f"{facts.bits}-bit" + (" on a 64-bit kernel" if mixed else "")
    remedy = "A 64-bit image runs on this board: it has onnxruntime and LiteRT, and more memory for each process."
    return Check("userland", not mixed, detail, remedy if mixed else "")


def _pages(facts: DeviceFacts) -> Check:
    if not facts.page_bytes or facts.page_bytes <= _USUAL_PAGE_BYTES:
        return Check("pages", True, "4 KiB" if facts.page_bytes else "unknown")
    hint = "; a library that does not load there may with kernel=kernel8.img in config.txt"
    hint = hint if "raspberrypi" in " ".join(facts.compatible) else ""
    return Check("pages", True, f"{facts.page_bytes >> 10} KiB, which onnxruntime and LiteRT run with{hint}")


def _packages(facts: DeviceFacts) -> Check:
    """Runtimes that are installed and cannot be loaded by any interpreter that the runner found."""
    idle = [one for one in facts.packages if facts.runtime(one.name) is None]
    detail = ", ".join(f"{one.package or one.name} {one.version}{_for_python(one)} does not load" for one in idle)
    others = [one for one in idle if one.python and not facts.python.startswith(f"{one.python}.")]
    remedy = ""
    if others:
        path = next((one.path for one in facts.pythons if one.version.startswith(others[0].python)), "")
        remedy = f"Name its interpreter{f' ({path})' if path else ''}: edgeopt device add --python."
    elif idle:
        remedy = f"Let edgeopt install its own: edgeopt device provision NAME --runtime {idle[0].name}."
    return Check("packages", not idle, detail or "all load", remedy)


def _for_python(package: PackageFacts) -> str:
    return f" (Python {package.python})" if package.python else ""


_JUDGES: tuple[Judge, ...] = (
    *(_disk, _memory, _userland, _pages, _runtimes, _packages),
    *(_governor, _temperature, _alarms),
)
