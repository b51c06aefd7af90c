"""Looks at all boards of a target at once, and puts those of one profile together as a kind."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgeopt.core.device import Device, DeviceFacts
from edgeopt.core.profile import Profile, Settings
from edgeopt.errors import DeviceError, UsageError
from edgeopt.remote.client import connect
from edgeopt.workflow.deploying import require_runtime, settings_of
from edgeopt.workflow.kinds.crew import Crew, Member
from edgeopt.workflow.kinds.shared import Shared
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import Aim, profile_for
from edgeopt_targets.profile_files import find_profile

_AT_A_TIME = 16


@dataclass(frozen=True)
class Group:
    """What a target that names several boards came to.

    Attributes:
        kinds: Boards by their profile, in the order in which they were named.
        unreached: Boards that could not be looked at, with the reason.
        presumed: The profiles of those, as the user or the inventory says; without those of which nobody says one.
    """

    kinds: dict[str, tuple[Profile, Crew]]
    unreached: dict[str, str]
    presumed: dict[str, str]


def look_at_all(devices: Sequence[Device], request: Request, said: Shared) -> Group:
    """Probe the boards, all at the same time.

    Raises:
        DeviceError: None of them can be used.
        UsageError: The profile that the user named is none.
    """
    said.stage("Looking at the boards", len(devices))
    with ThreadPoolExecutor(min(_AT_A_TIME, len(devices)), thread_name_prefix="edgeopt-look") as threads:
        looked = list(threads.map(lambda device: _look(device, request, said), devices))
    failed = {device.name: one for device, one in zip(devices, looked, strict=True) if isinstance(one, DeviceError)}
    if len(failed) == len(devices):
        raise next(iter(failed.values()))
    kinds: dict[str, tuple[Profile, list[Member]]] = {}
    for one in looked:
        if not isinstance(one, DeviceError):
            profile, member = one
            kinds.setdefault(profile.name, (profile, []))[1].append(member)
    for name, error in failed.items():
        said.note(f"{name} is left out: {error.message}")
    crews = {name: (profile, Crew(members, said)) for name, (profile, members) in kinds.items()}
    away = [device for device in devices if device.name in failed]
    presumed = {one.name: named for one in away if (named := request.profile or one.profile)}
    return Group(crews, {name: error.message for name, error in failed.items()}, presumed)


def _look(device: Device, request: Request, said: Shared) -> tuple[Profile, Member] | DeviceError:
    try:
        with connect(device) as connection, connection.lease("looking at the device"):
            facts = connection.probe()
        named = request.profile or device.profile
        profile = profile_for(Aim(device, find_profile(named) if named else None), facts, device.name, said)
        require_runtime(facts, profile, device)
    except DeviceError as error:
        return error
    said.advance(f"{device.name}: {facts.model or facts.cpu}, profile {profile.name}")
    return profile, Member(device, facts)


def common_settings(request: Request, profile: Profile, members: Sequence[Member]) -> tuple[Settings, ...]:
    """The settings that every board of a kind has.

    Raises:
        UsageError: There are none, or the user asked for some that a board does not have.
    """
    offered = [settings_of(request, profile, member.facts) for member in members]
    shared = tuple(one for one in offered[0] if all(one in others for others in offered[1:]))
    if not shared:
        has = "; ".join(f"{member.device.name}: {_runtimes(member.facts)}" for member in members)
        raise UsageError(
            f"the boards of profile {profile.name} have no runtime in common ({has}).",
            remedy="Install the same on each: edgeopt device provision NAME; or name them in calls of their own.",
        )
    return shared


def _runtimes(facts: DeviceFacts) -> str:
    return ", ".join(one.name for one in facts.runtimes)
