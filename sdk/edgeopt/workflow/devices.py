"""What is done to one device: add it, look at it, roll back, clean."""

from __future__ import annotations

import dataclasses
import getpass
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.deployment import Deployment
from edgeopt.core.device import LOCAL, Device, DeviceFacts
from edgeopt.core.profile import Profile
from edgeopt.errors import UnknownDeviceError, UnknownHostKeyError, UsageError
from edgeopt.remote import doctor, hostkeys, jobs
from edgeopt.remote.client import connect
from edgeopt.workflow.enrolling import remove_timer
from edgeopt.workflow.suitability import SUITABILITY
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets.profile_files import find_profile, match_profile

Confirm = Callable[[str], bool]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^@:\s]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Added:
    """A device that was just added: what was pinned and what the probe found."""

    device: Device
    facts: DeviceFacts
    fingerprint: str


def describe_device(
    name: str,
    address: str,
    *,
    key: str | None = None,
    jump: str | None = None,
    python: str | None = None,
    root: str = "~/.edgeopt",
    labels: Sequence[str] = (),
    profile: str | None = None,
) -> Device:
    """The device that the words of `device add` mean; nothing is contacted.

    Raises:
        UsageError: A name, address, label or key file that cannot be used.
        DocumentError: No profile has that name.
    """
    match = _ADDRESS.fullmatch(address)
    if not _NAME.fullmatch(name) or name == LOCAL.name:
        raise UsageError(
            f"{name!r} is not a name for a device.", remedy="Use letters, digits, dots and dashes; local is taken."
        )
    if match is None or not 0 < int(match["port"] or 22) < 65536:
        raise UsageError(f"{address!r} is not an address.", remedy="Say user@host or user@host:port.")
    pairs = [label.partition("=") for label in labels]
    if any(not separator for _, separator, _ in pairs):
        raise UsageError(f"--label {labels[0]!r} is not key=value.", remedy="Say --label site=berlin.")
    if key is not None and not Path(key).expanduser().is_file():
        raise UsageError(f"--key {key!r} is not a file.", remedy="Give the private key, for example ~/.ssh/id_ed25519.")
    if profile is not None:
        find_profile(profile)
    return Device(
        name=name,
        transport="ssh",
        host=match["host"].strip("[]"),
        port=int(match["port"]) if match["port"] else None,
        user=match["user"],
        identity_file=str(Path(key).expanduser().absolute()) if key else None,
        jump=jump,
        python=python,
        root=root,
        profile=profile,
        labels={label: value for label, _, value in pairs},
    )


def find_device(name: str, workspace: Workspace) -> Device:
    """The device of the inventory, ``local``, or ``user@host``.

    Raises:
        UnknownDeviceError: There is none of that name.
    """
    device = workspace.inventory.resolve(name)
    if device is None:
        known = ", ".join(d.name for d in workspace.inventory.devices()) or "none yet"
        raise UnknownDeviceError(
            f"there is no device {name!r} (known: {known}).", remedy=f"Add it: edgeopt device add {name} user@host."
        )
    return device


def add_device(device: Device, workspace: Workspace, *, fingerprint: str | None, confirm: Confirm) -> Added:
    """Pin the host key, probe the board, remember it with its profile.

    Raises:
        UnknownHostKeyError: The key was not confirmed.
        DeviceError: The board cannot be reached or has no Python.
    """
    pinned = trust_device(device, fingerprint=fingerprint, confirm=confirm, replace=False)
    facts, profile = probe_device(device)
    named = device if device.profile else dataclasses.replace(device, profile=profile.name)
    workspace.inventory.add(named)
    return Added(named, facts, pinned)


def trust_device(device: Device, *, fingerprint: str | None, confirm: Confirm, replace: bool) -> str:
    """Pin the key that the board shows now, if it is the expected one, or known to ssh already, or confirmed.

    Returns:
        The fingerprint.

    Raises:
        UnknownHostKeyError: Not the expected key, or not confirmed.
        ChangedHostKeyError: Another key is pinned and `replace` is false.
    """
    if device.transport == "local":
        raise UsageError("local has no host key: it is this machine.", remedy="Name a device of edgeopt device list.")
    shown = hostkeys.scan(device)
    if fingerprint is not None and shown != fingerprint:
        raise UnknownHostKeyError(
            f"{device.name} shows the host key {shown}, not {fingerprint}.",
            remedy="Compare with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the board itself.",
        )
    trusted = fingerprint is not None or hostkeys.known_to_ssh(device)
    if not trusted and not confirm(f"{device.name} ({device.host}) shows the host key {shown}. Pin it?"):
        raise UnknownHostKeyError(
            f"the host key {shown} of {device.name} was not confirmed.",
            remedy=f"If it is right, give --fingerprint {shown}.",
        )
    hostkeys.trust(device, shown, replace=replace)
    return shown


def probe_device(device: Device) -> tuple[DeviceFacts, Profile]:
    """What the device says about itself, and the profile that fits it."""
    with connect(device) as connection:
        facts = connection.probe()
    profile = find_profile(device.profile) if device.profile else match_profile(facts)
    return facts, profile


def examine_device(device: Device) -> tuple[doctor.Check, ...]:
    """Every check of the doctor; a sick device is an answer, not an error."""
    return doctor.examine(device, further=SUITABILITY)


def list_apps(device: Device) -> list[dict[str, Any]]:
    """What is active on the device, one entry an application."""
    with connect(device) as connection:
        return connection.apps()


def roll_back(device: Device, app: str) -> Deployment:
    """Make the previous release of `app` active again.

    Raises:
        UsageError: There is no such application.
        RunnerError: There is nothing to go back to.
    """
    known = [str(entry["app"]) for entry in list_apps(device)]
    if app not in known:
        raise UsageError(
            f"{device.name} has no application {app!r}.", remedy=f"It has: {', '.join(known) or 'none yet'}."
        )
    with connect(device) as connection, connection.lease(f"rollback of {app} by {getpass.getuser()}"):
        result = connection.run_job(jobs.rollback_job(app))
    jobs.require_ok(result, f"rolling {app} back")
    return jobs.deployment_of(result, device.name)


def clean_device(device: Device, *, force: bool) -> None:
    """Take everything of ours off the device.

    Raises:
        RunnerError: Applications are active there and `force` is false.
    """
    with connect(device) as connection:
        if connection.request("agent").get("configured") is True:
            remove_timer(connection)
        connection.clean(force=force)
