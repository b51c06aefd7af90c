"""Finds the device that `--target` means, and the hardware profile that fits it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from edgeopt.core.device import LOCAL, Device, DeviceFacts
from edgeopt.core.profile import Profile
from edgeopt.errors import UnknownDeviceError, UsageError
from edgeopt.remote.inventory import Inventory
from edgeopt.workflow.listener import Listener
from edgeopt_targets.matching import right_machine, unknown_board
from edgeopt_targets.profile_files import find_profile, load_profiles, match_profile


@dataclass(frozen=True)
class Aim:
    """What `--target` came to.

    Attributes:
        device: The board.
        profile: The profile that the user named, or ``None`` to match one to the probe's facts.
    """

    device: Device
    profile: Profile | None


_SELECTS = re.compile(r"[=*?]|\bin\s*\(")


def names_several(target: str) -> bool:
    """Whether a target is a list of devices or a selector of the inventory (`kinds.targets.boards_named`)."""
    return "," in target or selects(target)


def selects(target: str) -> bool:
    """Whether it is a selector, such as ``label=shop`` or ``name=press-*``."""
    return bool(_SELECTS.search(target))


def resolve_target(target: str, inventory: Inventory, profile_name: str | None = None) -> Aim:
    """Look `target` up: a device, ``user@host``, else a profile or a family of profiles.

    Raises:
        UnknownDeviceError: Nothing has that name; the remedy says how to add it.
        UsageError: Several devices fit a profile, or an unknown profile was named.
    """
    named = find_profile(profile_name) if profile_name else None
    device = inventory.resolve(target)
    if device is not None:
        chosen = named or (find_profile(device.profile) if device.profile else None)
        return Aim(device, chosen)
    profiles = [p for p in load_profiles() if target in (p.name, p.target)]
    fitting = [d for d in inventory.devices() if d.profile in {p.name for p in profiles}]
    if len(fitting) > 1:
        names = ", ".join(d.name for d in fitting)
        raise UsageError(
            f"--target {target!r} fits several devices: {names}.",
            remedy=f"Name one of them, or deploy to all: --target {names.replace(', ', ',')}.",
        )
    if fitting:
        return Aim(fitting[0], named or find_profile(str(fitting[0].profile)))
    if profiles:
        return Aim(LOCAL, named or (profiles[0] if len(profiles) == 1 else None))
    if names_several(target):
        raise UsageError(f"--target {target!r} names several boards.", remedy="Name one; edgeopt deploy takes several.")
    known = [*(d.name for d in inventory.devices()), *(name for p in load_profiles() for name in (p.name, p.target))]
    near = difflib.get_close_matches(target, known, n=1)
    hint = f"Did you mean {near[0]}? If not, add your board" if near else "Add your board"
    raise UnknownDeviceError(
        f"--target {target!r} is no device, profile or host that edgeopt knows.",
        remedy=f"{hint} with: edgeopt device add {target} user@host (or use --target local for this machine).",
    )


def profile_for(aim: Aim, facts: DeviceFacts, target: str, listener: Listener | None = None) -> Profile:
    """The profile to work with: the named one where the device fits it, else the one that matches the facts.

    Args:
        aim: What the target came to.
        facts: What the device said.
        target: What the user typed.
        listener: Told where no profile knows the board and a generic one is taken.

    Raises:
        UnknownDeviceError: `target` named a kind of hardware that this machine is not.
    """
    matched = match_profile(facts)
    wanted = aim.profile
    if wanted is not None and not right_machine(wanted, facts):
        found = f"{facts.machine}, {facts.bits}-bit"
        raise UnknownDeviceError(
            f"profile {wanted.name!r} is for {_kind(wanted)}; {aim.device.name!r} is {found}.",
            remedy=f"Add a board of that kind with: edgeopt device add NAME user@host; this one fits {matched.name!r}.",
        )
    if aim.device == LOCAL and target not in ("local", matched.name, matched.target) and wanted is None:
        raise UnknownDeviceError(
            f"--target {target!r} is a kind of hardware that this machine is not (it is {matched.name!r}).",
            remedy="Add a board of that kind with: edgeopt device add NAME user@host.",
        )
    if wanted is None and listener is not None and (said := unknown_board(matched, facts)):
        listener.note(said)
    return wanted or matched


def _kind(profile: Profile) -> str:
    bits = f", {profile.bits}-bit" if profile.bits else ""
    return " or ".join(profile.machine) + bits
