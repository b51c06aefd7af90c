"""How well a profile fits what a probe found, and what to tell the user of a board that nobody knows."""

from __future__ import annotations

from fnmatch import fnmatchcase

from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Clue, Profile

_SURE = 3
_GIB = float(1 << 30)


def fits(profile: Profile, facts: DeviceFacts) -> bool:
    """Whether machine, pointer size, ISA flags and, where the profile has any, one of the clues fit."""
    isa = set(facts.isa)
    return (
        right_machine(profile, facts)
        and isa.issuperset(profile.isa_all)
        and (not profile.isa_any or not isa.isdisjoint(profile.isa_any))
        and isa.isdisjoint(profile.isa_none)
        and (not profile.clues or any(_holds(clue, facts) for clue in profile.clues))
    )


def right_machine(profile: Profile, facts: DeviceFacts) -> bool:
    """Whether what the profile describes could run this userland at all."""
    return (not profile.machine or facts.machine in profile.machine) and profile.bits in (0, facts.bits)


def rank(profile: Profile, facts: DeviceFacts) -> tuple[int, ...]:
    """How much a profile that fits says about a device; the largest is taken.

    A board's own profile goes before a generic one; among those the surest clue, the longest pattern, and the number
    of conditions decide.
    """
    clues = [_certainty(clue) for clue in profile.clues if _holds(clue, facts)]
    conditions = len(profile.isa_all) + bool(profile.isa_any) + len(profile.isa_none)
    hard = bool(profile.bits) + bool(profile.machine)
    return (not profile.generic, *max(clues, default=(0, 0)), conditions, hard)


def unknown_board(profile: Profile, facts: DeviceFacts) -> str:
    """What to tell the user where `profile` was taken for want of a better one; empty where the board is known."""
    if profile.name.startswith("x86") and not profile.generic:
        return ""
    board = repr(facts.model) if facts.model else f"this {facts.machine or 'unknown'} device"
    if profile.generic:
        return (
            f"edgeopt has no profile for {board}; it goes by {profile.name!r} ({profile.description}), "
            "and the device's own measurements decide as always."
        )
    sure = [clue for clue in profile.clues if _holds(clue, facts) and _certainty(clue)[0] >= _SURE]
    if profile.clues and not sure:
        return f"edgeopt does not know {board}; by its SoC and memory it is taken for {profile.name!r}."
    return ""


def _holds(clue: Clue, facts: DeviceFacts) -> bool:
    asked = [
        not clue.model or fnmatchcase(facts.model, clue.model),
        not clue.compatible or any(fnmatchcase(name, clue.compatible) for name in facts.compatible),
        not clue.l4t or bool(facts.l4t and fnmatchcase(facts.l4t, clue.l4t)),
    ]
    if clue.memory_gib is not None:
        least, largest = clue.memory_gib
        asked.append(least <= facts.memory_bytes / _GIB < largest)
    return all(asked)


def _certainty(clue: Clue) -> tuple[int, int]:
    """How sure a clue makes, and the length of what its patterns say: a SoC leaves more open than a module's number."""
    words = len((clue.model or clue.compatible or clue.l4t).replace("*", ""))
    if clue.memory_gib is not None:
        return 2, words
    return (4 if clue.model else _SURE if clue.compatible else 1), words
