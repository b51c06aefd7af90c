"""Enrolment: look at a device's host key without logging in, and pin it when its fingerprint is the expected one."""

from __future__ import annotations

from dataclasses import dataclass

import paramiko

from edgeopt.core.device import Device
from edgeopt.errors import ChangedHostKeyError, UsageError
from edgeopt.remote.dial import Dialer
from edgeopt.remote.hostkeys import KnownHosts, fingerprint, user_known_hosts
from edgeopt.remote.ssh_config import route


@dataclass(frozen=True)
class ShownKey:
    """The host key that a server shows.

    Attributes:
        name: The server's name in known_hosts.
        kind: For example ``ssh-ed25519``.
        fingerprint: ``SHA256:...``.
        vouched: Whether the user's own known_hosts has this key for this server.
        pinned: Whether edgeopt has this key pinned already.
        key: The key.
    """

    name: str
    kind: str
    fingerprint: str
    vouched: bool
    pinned: bool
    key: paramiko.PKey


def scan(device: Device, known_hosts: KnownHosts | None = None) -> ShownKey:
    """Ask a device for its host key. Nothing is offered to it; jump hosts on the way must be pinned.

    Raises:
        DeviceError: It cannot be reached.
    """
    pins, (*jumps, hop) = known_hosts or KnownHosts(), route(device)
    dialer = Dialer(device.name, pins)
    try:
        for jump in jumps:
            dialer.enter(jump)
        key = dialer.approach(hop).get_remote_server_key()
    finally:
        dialer.close()
    vouched = key in user_known_hosts().keys(hop.key_name)
    return ShownKey(hop.key_name, key.get_name(), fingerprint(key), vouched, key in pins.keys(hop.key_name), key)


def trust(
    device: Device, expected: str = "", *, replace: bool = False, known_hosts: KnownHosts | None = None
) -> ShownKey:
    """Pin a device's host key.

    Args:
        device: The device.
        expected: Its fingerprint, ``SHA256:...``; empty accepts what the user's own known_hosts vouches for, and with
            `replace` what the device shows.
        replace: Whether a pinned key may be replaced by another.
        known_hosts: Where to pin.

    Returns:
        The key that is pinned now.

    Raises:
        UsageError: The device shows another fingerprint than expected, or nobody vouches for it.
        ChangedHostKeyError: Another key is pinned, and `replace` is not set.
        DeviceError: It cannot be reached.
    """
    pins = known_hosts or KnownHosts()
    shown = scan(device, pins)
    if expected and shown.fingerprint != expected:
        raise UsageError(
            f"{device.name}: {shown.name} shows {shown.fingerprint}, not {expected}. Nothing was pinned.",
            remedy="On the device: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    if shown.pinned:
        return shown
    if pins.keys(shown.name) and not replace:
        pins.verify(shown.name, shown.key, device=device.name, address=device.host)
        raise ChangedHostKeyError(f"{device.name}: the host key of {shown.name} has changed.")
    if not (expected or replace or shown.vouched):
        raise UsageError(
            f"{device.name}: {shown.name} shows {shown.fingerprint} ({shown.kind}), and nobody vouches for it yet.",
            remedy=f"Compare it with the device's own, then add: --fingerprint {shown.fingerprint}",
        )
    pins.pin(shown.name, shown.key)
    return shown
