"""Lists on a terminal: devices, what a device said of itself, checks, runs, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.text import Text

from edgeopt.core.device import Device, DeviceFacts
from edgeopt.report import quantities as q
from edgeopt.report.layout import facts, table, text

_USUAL_PAGE_BYTES = 4096


class CheckResult(Protocol):
    """One finding of the doctor."""

    @property
    def name(self) -> str:
        """What was looked at."""

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""

    @property
    def detail(self) -> str:
        """What was found."""

    @property
    def remedy(self) -> str:
        """What to do about it; empty where nothing is to be done."""


def print_devices(devices: Sequence[Device], console: Console) -> None:
    """Print the inventory, or how to add the first device."""
    if not devices:
        console.print("No devices yet. Add one: edgeopt device add NAME user@host")
        return
    made = table("device", "reach", "profile", "labels")
    for device in devices:
        labels = " ".join(f"{key}={value}" if value else key for key, value in device.labels.items())
        made.add_row(text(device.name, "bold"), text(_reach(device)), text(device.profile or q.NONE), text(labels))
    console.print(made)


def _reach(device: Device) -> str:
    if device.transport == "local":
        return "this machine"
    user = f"{device.user}@" if device.user else ""
    port = f":{device.port}" if device.port else ""
    return f"ssh {user}{device.host}{port}" + (f" via {device.jump}" if device.jump else "")


def print_facts(found: DeviceFacts, console: Console) -> None:
    """Print what the probe found; what the device could not tell is left out."""
    cores = f"{found.cores_physical} cores" if found.cores_physical else ""
    logical = f"{found.cores_logical} usable CPUs" if found.cores_logical else ""
    memory = f"{q.size(found.memory_bytes)}, {q.size(found.memory_available_bytes)} available"
    temperature = f"{found.temperature_celsius:.0f} °C" if found.temperature_celsius is not None else ""
    jetson = " ".join(
        part for part in (found.jetpack and f"JetPack {found.jetpack}", found.l4t and f"L4T {found.l4t}") if part
    )
    rows = [
        ("board", found.model),
        ("soc", found.compatible[-1] if found.compatible else ""),
        (
            "processor",
            ", ".join(part for part in (found.cpu, found.machine, f"{found.bits} bit", cores, logical) if part),
        ),
        ("isa", " ".join(found.isa)),
        ("memory", memory if found.memory_bytes else ""),
        ("disk free", q.size(found.disk_free_bytes) if found.disk_free_bytes else ""),
        ("system", ", ".join(part for part in (found.os, found.kernel, _kernel(found), found.libc) if part)),
        ("jetson", jetson),
        ("libraries", ", ".join(f"{name} {version}" for name, version in sorted(found.libraries.items()))),
        ("gpu", ", ".join(found.gpus)),
        ("python", _pythons(found)),
        ("clocks", ", ".join(part for part in (found.governor, found.power_mode, temperature) if part)),
        ("alarms", ", ".join(found.alarms)),
        ("print", found.fingerprint[:16]),
    ]
    rows += [("runtime", f"{item.name} {item.version} ({', '.join(item.providers)})") for item in found.runtimes]
    idle = [one for one in found.packages if found.runtime(one.name) is None]
    rows += [("installed", f"{one.package or one.name} {one.version}, which does not load") for one in idle]
    facts(console, rows)
    if not found.runtimes:
        console.print(text("! no inference runtime found: edgeopt device provision", "yellow"))


def _kernel(found: DeviceFacts) -> str:
    """Where it differs from what one would think: 64-bit under a 32-bit userland, large pages."""
    wide = "64-bit kernel" if found.kernel_bits == 64 and found.bits == 32 else ""
    page_bytes = found.page_bytes or _USUAL_PAGE_BYTES
    pages = f"{page_bytes >> 10} KiB pages" if page_bytes > _USUAL_PAGE_BYTES else ""
    return ", ".join(part for part in (wide, pages) if part)


def _pythons(found: DeviceFacts) -> str:
    others = [f"{one.path} {one.version}" for one in found.pythons if one.version != found.python]
    return f"{found.python} (also {', '.join(others)})" if found.python and others else found.python


def print_checks(checks: Sequence[CheckResult], console: Console) -> None:
    """Print the doctor's findings, each with its remedy, and how many need attention."""
    for check in checks:
        mark = Text("ok  ", "green") if check.ok else Text("BAD ", "bold red")
        console.print(Text.assemble(mark, text(check.name, "bold"), "  ", text(check.detail)))
        if not check.ok and check.remedy:
            console.print(Text.assemble("    -> ", text(check.remedy)))
    bad = sum(not check.ok for check in checks)
    console.print(f"{len(checks)} checks, {bad} to look at." if bad else f"{len(checks)} checks, all good.")


class RunLine(Protocol):
    """What is shown of a run; `edgeopt.store.ledger.RunSummary` is one."""

    @property
    def run_id(self) -> str:
        """Short unique name."""

    @property
    def started_at(self) -> float:
        """Seconds since the epoch."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def device(self) -> str:
        """The device's name."""

    @property
    def state(self) -> str:
        """As in `RunRecord`."""

    @property
    def winner(self) -> str | None:
        """Key of the winner."""


def print_runs(records: Sequence[RunLine], console: Console) -> None:
    """Print runs, one line each, in the order given."""
    if not records:
        console.print("No runs yet. Start one: edgeopt deploy MODEL --target local")
        return
    made = table("run", "started (UTC)", "model", "device", "state", "winner")
    for column in made.columns[:2]:
        column.no_wrap = True
    for record in records:
        cells = (record.run_id, q.moment(record.started_at), record.model, record.device, record.state)
        made.add_row(*(text(cell, limit=24) for cell in cells), text(record.winner or "", limit=80))
    console.print(made)
