"""Enrols a board: pins the root of trust there, tells its agent where to pull from, and has systemd start it."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.device import Device
from edgeopt.errors import DeviceError, RunnerError, SigningError, UsageError
from edgeopt.publishing import units
from edgeopt.remote.client import Connection, connect
from edgeopt.remote.untrusted import field
from edgeopt.workflow.fleet.agents import PullingBoard, key_path, remember
from edgeopt.workflow.workspace import Workspace

_MOST_CERTIFICATES_BYTES = 128 << 10
_PLACES = f"""
if [ "$(id -u)" = 0 ]; then
  folder=/etc/systemd/system; control="systemctl"; who=system
  [ -d /run/systemd/system ] || control=""
else
  folder="${{XDG_CONFIG_HOME:-$HOME/.config}}/systemd/user"; control="systemctl --user"; who=user
  $control show-environment >/dev/null 2>&1 || control=""
fi
command -v systemctl >/dev/null 2>&1 || control=""
service="$folder/{units.NAME}.service"; timer="$folder/{units.NAME}.timer"
"""


@dataclass(frozen=True)
class Hawkbit:
    """A hawkBit server that orders, instead of offers in the tree.

    Attributes:
        url: Of its DDI, up to ``.../controller/v1``.
        token: The board's security token there, or a gateway's.
        controller: The board's name there; empty: as here.
    """

    url: str
    token: str = dataclasses.field(repr=False)
    controller: str = ""


@dataclass(frozen=True)
class Pulling:
    """What a board's agent is to do.

    Attributes:
        url: Where the tree is; empty: what hawkBit assigns holds all of it.
        every_seconds: Between polls.
        report_url: Where reports go; empty: nowhere.
        apps: Those that the board wants; empty: all that are offered.
        certificates: PEM file of the authorities to believe; ``None``: the board's own.
        hawkbit: Who orders; ``None``: the offers in the tree.
    """

    url: str
    every_seconds: int = 1800
    report_url: str = ""
    apps: tuple[str, ...] = ()
    certificates: Path | None = None
    hawkbit: Hawkbit | None = None


@dataclass(frozen=True)
class Enrolled:
    """A board that was enrolled.

    Attributes:
        device: Its name.
        root_version: Of the root of trust that it has now.
        url: Where it pulls from, or of the hawkBit server that orders; empty: it does not.
        public_key: Of its reports; empty likewise.
        started_by: ``system`` or ``user`` (a timer of systemd), or empty: somebody has to start the agent.
        cron_line: For crontab, where systemd is not there.
        note: What else should be known.
    """

    device: str
    root_version: int
    url: str = ""
    public_key: str = ""
    started_by: str = ""
    cron_line: str = ""
    note: str = ""


def enrol_device(
    device: Device,
    workspace: Workspace,
    *,
    pulling: Pulling | None = None,
    replace: bool = False,
    timer: bool = True,
) -> Enrolled:
    """Pin the root of trust on a board, and make it pull where `pulling` is given.

    Args:
        device: The board.
        workspace: Whose keys and tree.
        pulling: Where and how often it pulls; ``None``: it is only pushed to.
        replace: The board trusts another root: forget that.
        timer: Whether a timer is installed.

    Raises:
        SigningError: There are no keys yet.
        RunnerError: The board trusts another root (``already_enrolled``).
        UsageError: A certificate file that cannot be used.
        DeviceError: The board cannot be reached.
    """
    from edgeopt.workflow.fleet.tree import repository_of  # late: not every command that comes by needs python-tuf

    root = repository_of(workspace).root()
    settings, certificates = _settings(device, pulling) if pulling is not None else ({}, "")
    with connect(device) as connection:
        _follow(connection, workspace)
        trust = connection.request("enrol", root=root, replace=replace)
        version = int(field(trust, "root", int, f"{device.name}: enrol"))
        if pulling is None:
            return Enrolled(device.name, version)
        _follow(
            connection, workspace
        )  # now it knows a signed time, by which it takes certificates where its clock stands
        told = connection.request("agent", settings=settings, certificates=certificates)
        start = _start(connection, told, pulling.every_seconds)
        key = str(field(told, "public_key", str, f"{device.name}: agent"))
        _remember(workspace, device, pulling, key)
        started, note = _install(connection, start) if timer else ("", "")
    line = "" if started else units.cron_line(start)
    url = pulling.hawkbit.url if pulling.hawkbit else pulling.url
    return Enrolled(device.name, version, url, key, started, line, note)


def _follow(connection: Connection, workspace: Workspace) -> None:
    """Bring a board that trusts a root of ours to the newest metadata; one of somebody else's stays as it is."""
    from edgeopt.workflow.fleet.engine_live import Carrier, LiveBoard
    from edgeopt.workflow.fleet.sources import TreeSource

    if connection.request("trust").get("enrolled") is True:
        with contextlib.suppress(RunnerError, SigningError):  # it trusts another root, or ours expired: enrol says so
            LiveBoard(connection, Carrier({}, TreeSource(workspace))).bring_trust()


def dismiss_device(device: Device, workspace: Workspace) -> None:
    """Take agent and timer off a board; what it trusts and runs stays.

    Raises:
        DeviceError: The board cannot be reached.
    """
    with connect(device) as connection:
        remove_timer(connection)
        connection.request("agent", remove=True)
    key_path(workspace, device.name).unlink(missing_ok=True)


def remove_timer(connection: Connection) -> None:
    """Stop the agent's timer on a board and take its units away; nothing happens where there are none.

    Raises:
        DeviceError: The board cannot be reached, or the units stay.
    """
    script = f"""{_PLACES}
[ -e "$service" ] || [ -e "$timer" ] || exit 0
[ -z "$control" ] || $control disable --now {units.NAME}.timer >/dev/null 2>&1
rm -f "$service" "$timer"
[ -z "$control" ] || $control daemon-reload
exit 0"""
    said = connection.shell(script)
    if said.status:
        raise DeviceError(f"{connection.device.name}: the agent's timer stays: {said.errors}.", remedy="Remove it.")


def _remember(workspace: Workspace, device: Device, pulling: Pulling, key: str) -> None:
    told = (pulling.url, pulling.report_url, device.profile or "", _labels(device), pulling.apps, pulling.every_seconds)
    remember(workspace, device.name, PullingBoard(key, *told))


def _labels(device: Device) -> dict[str, str]:
    return {name: value for name, value in device.labels.items() if name not in ("name", "profile")}


def _settings(device: Device, pulling: Pulling) -> tuple[Mapping[str, Any], str]:
    """The agent's settings, and the text of the certificates."""
    certificates = ""
    if pulling.certificates is not None:
        try:
            certificates = pulling.certificates.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise UsageError(f"--ca {str(pulling.certificates)!r}: {error}.", remedy="Give a PEM file.") from None
        if "BEGIN CERTIFICATE" not in certificates or len(certificates) > _MOST_CERTIFICATES_BYTES:
            raise UsageError(f"--ca {str(pulling.certificates)!r} is no PEM file.", remedy="Give a PEM file.")
    if not device.profile:
        raise UsageError(
            f"{device.name} has no profile.", remedy=f"Add it with one: edgeopt device add {device.name} ... --profile."
        )
    own: dict[str, Any] = {
        "url": pulling.url,
        "report_url": pulling.report_url,
        "device_id": device.name,
        "profile": device.profile,
    }
    if pulling.hawkbit is not None:
        hawkbit = pulling.hawkbit
        own["hawkbit"] = {"url": hawkbit.url, "controller": hawkbit.controller or device.name, "token": hawkbit.token}
    return {**own, "labels": _labels(device), "apps": list(pulling.apps)}, certificates


def _start(connection: Connection, told: Mapping[str, Any], every_seconds: int) -> units.Start:
    where = f"{connection.device.name}: agent"
    python, bundle = (str(field(told, name, str, where)) for name in ("python", "bundle"))
    return units.Start(python, bundle, connection.placed.root, every_seconds)


def _install(connection: Connection, start: units.Start) -> tuple[str, str]:
    """Put service and timer there and start the timer; returns whose systemd took it (or nobody's), and a note."""
    script = f"""{_PLACES}
[ -n "$control" ] || {{ echo none; exit 0; }}
mkdir -p "$folder" || exit 1
printf %s {shlex.quote(units.service(start))} > "$service" || exit 1
printf %s {shlex.quote(units.timer(start))} > "$timer" || exit 1
$control daemon-reload && $control enable --now {units.NAME}.timer >/dev/null || exit 1
[ $who = system ] || loginctl enable-linger >/dev/null 2>&1 || echo lingerless
echo $who"""
    said = connection.shell(script)
    if said.status:
        raise DeviceError(
            f"{connection.device.name}: systemd did not take the agent: {said.errors or said.text}.",
            remedy="Start it by cron: edgeopt device enrol NAME --url URL --no-timer.",
        )
    lines: Sequence[str] = said.text.split()
    lingers = "lingerless" not in lines
    note = "" if lingers else "the timer runs only while this user is logged in; as root: loginctl enable-linger USER"
    return ("" if not lines or lines[-1] == "none" else lines[-1]), note
