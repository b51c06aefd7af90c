"""Gives a device inference runtimes: which ones, from which wheels, sent from here and installed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.device import LOCAL, Device, DeviceFacts
from edgeopt.core.profile import Profile
from edgeopt.errors import ProvisionError, UsageError
from edgeopt.remote import jobs, wheels
from edgeopt.remote.client import connect
from edgeopt.workflow.devices import probe_device
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets.runtimes import ALONE, RUNTIMES, requirements
from edgeopt_targets.wheel_versions import installable, no_wheel, userland


@dataclass(frozen=True)
class Shopping:
    """What pip is asked for.

    Attributes:
        packages: Taken with all that they need.
        alone: Taken as they are.
        system: Whether the environment sees the device's own packages, for what has no wheel there.
    """

    packages: tuple[str, ...]
    alone: tuple[str, ...]
    system: bool


def provision_device(
    device: Device,
    workspace: Workspace,
    *,
    runtimes: Sequence[str] = (),
    wheelhouse: str | None = None,
    listener: Listener | None = None,
) -> Mapping[str, Any]:
    """Resolve runtimes' wheels for the device here, push them, install them there; those provisioned before stay.

    Args:
        device: The device.
        workspace: Keeps the wheels.
        runtimes: Engines to install; empty takes the first of the device's profile that there are wheels of.
        wheelhouse: Take wheels from this folder alone.
        listener: Hears of progress.

    Returns:
        ``key``, ``interpreter`` and ``runtimes`` of the environment on the device.

    Raises:
        ProvisionError: No wheels for that Python, libc and architecture, or the installation failed.
        UsageError: No such runtime, or the device is this machine.
    """
    if device == LOCAL:
        raise UsageError("this machine's own Python is the local runtime.", remedy="Install with pip: onnxruntime.")
    said = listener or Silence()
    said.stage("Resolving wheels", 0)
    facts, profile = probe_device(device)
    wanted = runtimes_to_install(device.name, facts, profile, asked=runtimes, checked=wheelhouse is None)
    shopping = shopping_list(wanted, facts)
    given = Path(wheelhouse).expanduser() if wheelhouse else None
    resolved = wheels.wheels_for(
        facts, shopping.packages, workspace.cache_folder("wheels"), wheelhouse=given, alone=shopping.alone
    )
    said.stage("Sending wheels", len(resolved))
    with connect(device) as connection, connection.lease("provision"):
        for wheel in resolved:
            connection.push(wheel.path, wheel.digest)
            said.advance(wheel.name)
        said.stage("Installing on the device", 1)
        result = connection.run_job(jobs.provision_job(resolved, runtimes=wanted, system_site_packages=shopping.system))
        said.advance(device.name)
    jobs.require_ok(result, "provisioning")
    environment: Mapping[str, Any] = result["environment"]
    return environment


def runtimes_to_install(
    name: str, facts: DeviceFacts, profile: Profile, *, asked: Sequence[str] = (), checked: bool = True
) -> tuple[str, ...]:
    """The runtimes that an environment is to have: those that it has, and those asked for or, without any, the best.

    Args:
        name: The device's, for messages.
        facts: Of the device.
        profile: Of the device.
        asked: Engines that the user named.
        checked: Refuse those that no wheel is known of.

    Raises:
        ProvisionError: There are no wheels; says what the device can have instead.
        UsageError: There is no such runtime.
    """
    unknown = [runtime for runtime in asked if runtime not in RUNTIMES]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is no runtime that edgeopt knows.", remedy=f"There are {', '.join(RUNTIMES)}."
        )
    there = tuple(one.name for one in facts.runtimes if one.interpreter.endswith("/env/current/bin/python"))
    best = installable(profile.runtimes, facts) or profile.runtimes[0]
    wanted = tuple(asked) or (() if there else (best,))
    for runtime in wanted:
        if not requirements(runtime):
            raise ProvisionError(f"{runtime} is in no wheel: it comes with the device's system (JetPack).")
        if checked and no_wheel(runtime, facts):
            raise ProvisionError(
                f"there is no wheel of {runtime} for {_board(facts)}.", remedy=_instead(name, facts, profile)
            )
    return tuple(sorted({*there, *wanted}))


def shopping_list(runtimes: Sequence[str], facts: DeviceFacts) -> Shopping:
    """What to ask pip for, so that one set of wheels serves all of the runtimes.

    For 32-bit ARM there is no wheel of numpy: there it is the system's own.
    """
    asked = [package for runtime in runtimes for package in requirements(runtime)]
    alone = tuple(package for package in asked if package in ALONE)
    whole = [package for package in asked if package not in ALONE]
    if userland(facts).startswith("armv"):
        return Shopping(tuple(one for one in whole if not one.startswith("numpy")), alone, system=True)
    return Shopping(tuple(dict.fromkeys([*whole, *(["numpy"] if alone else [])])), alone, system=False)


def _board(facts: DeviceFacts) -> str:
    bits = f", {facts.bits}-bit" if facts.bits == 32 else ""
    return f"Python {facts.python}, {facts.libc or 'an unknown libc'}, {userland(facts)}{bits}"


def _instead(name: str, facts: DeviceFacts, profile: Profile) -> str:
    """What to do where a runtime cannot be had."""
    able = [runtime for runtime in RUNTIMES if requirements(runtime) and not no_wheel(runtime, facts)]
    ours = [runtime for runtime in able if runtime in profile.runtimes] or able
    if ours:
        choice = f"It can have {' or '.join(ours)}: edgeopt device provision {name} --runtime {ours[0]}"
        return f"{choice}; for onnxruntime put a 64-bit system on it." if facts.bits == 32 else f"{choice}."
    return "Give it another interpreter (--python), or wheels of your own with --wheelhouse DIR."
