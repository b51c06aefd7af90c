"""Enrolment: look at a device's host key without logging in, and pin it when its fingerprint is the expected one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeopt.core.device import Device
from edgeopt.errors import UnknownHostKeyError

if TYPE_CHECKING:
    import paramiko

    from edgeopt.remote.known_hosts import KnownHosts


def scan(device: Device, known_hosts: KnownHosts | None = None) -> str:
    """The fingerprint that a device shows, ``SHA256:...``. Nothing is offered to it; jump hosts must be pinned.

    Raises:
        DeviceError: It cannot be reached.
    """
    from edgeopt.remote.known_hosts import fingerprint

    return fingerprint(_shown(device, known_hosts)[1])


def pinned(device: Device) -> bool:
    """Whether a key is pinned for a device; nothing is asked of it."""
    from edgeopt.remote.known_hosts import KnownHosts
    from edgeopt.remote.ssh_config import route

    return bool(KnownHosts().keys(route(device)[-1].key_name))


def known_to_ssh(device: Device) -> bool:
    """Whether the user's own ``~/.ssh/known_hosts`` vouches for the key that the device shows now.

    Raises:
        DeviceError: It cannot be reached.
    """
    from edgeopt.remote.known_hosts import user_known_hosts

    name, key = _shown(device, None)
    return key in user_known_hosts().keys(name)


def trust(device: Device, expected: str, *, replace: bool = False, known_hosts: KnownHosts | None = None) -> None:
    """Pin a device's host key.

    Args:
        device: The device.
        expected: Its fingerprint, ``SHA256:...``: it is asked again, and must show this one.
        replace: Whether another key that is pinned may be replaced.
        known_hosts: Where to pin; edgeopt's own file by default.

    Raises:
        UnknownHostKeyError: The device shows another fingerprint.
        ChangedHostKeyError: Another key is pinned, and `replace` is not set.
        DeviceError: It cannot be reached.
    """
    from edgeopt.remote.known_hosts import KnownHosts, fingerprint

    pins = known_hosts or KnownHosts()
    name, key = _shown(device, pins)
    if fingerprint(key) != expected:
        raise UnknownHostKeyError(
            f"{device.name}: {name} shows {fingerprint(key)}, not {expected}. Nothing was pinned.",
            remedy="On the device: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    pinned = pins.keys(name)
    if key in pinned:
        return
    if pinned and not replace:
        pins.verify(name, key, device=device.name, address=device.host)
    pins.pin(name, key)


def _shown(device: Device, known_hosts: KnownHosts | None) -> tuple[str, paramiko.PKey]:
    """A device's name in known_hosts and the key that it shows."""
    from edgeopt.remote.dial import Dialer
    from edgeopt.remote.known_hosts import KnownHosts
    from edgeopt.remote.ssh_config import route

    *jumps, hop = route(device)
    dialer = Dialer(device.name, known_hosts or KnownHosts())
    try:
        for jump in jumps:
            dialer.enter(jump)
        return hop.key_name, dialer.approach(hop).get_remote_server_key()
    finally:
        dialer.close()


def twins(devices: Sequence[Device]) -> dict[str, tuple[str, ...]]:
    """Devices that have one pinned host key together: one board under several names, or boards cloned from one medium.

    Args:
        devices: Those to compare; nothing is asked of them.

    Returns:
        By name the others with the same key; names without such others are left out.

    Raises:
        DocumentError: ssh_config does not parse.
    """
    from edgeopt.remote.known_hosts import KnownHosts
    from edgeopt.remote.ssh_config import route

    pins = KnownHosts().plain()
    together: dict[str, list[str]] = {}
    for device in devices:
        if device.transport == "ssh" and (key := pins.get(route(device)[-1].key_name)):
            together.setdefault(key, []).append(device.name)
    groups = [names for names in together.values() if len(names) > 1]
    return {name: tuple(other for other in names if other != name) for names in groups for name in names}


def twin_words(others: Sequence[str], same: bool | None = None) -> str:
    """What is said of a device with such twins.

    Args:
        others: Its twins.
        same: Whether their hardware is the same; ``None``: not known.
    """
    known = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    name, clone = "the same board under two names", "a clone of its disk"
    why = {True: name, False: f"{clone} in other hardware", None: f"{name}, or {clone}"}[same]
    return f"it has the host key of {known}: {why}"
