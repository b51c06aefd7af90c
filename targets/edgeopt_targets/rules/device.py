"""Rules on the device: its machine, its userland, its memory, the runtimes that it has or could be given."""

from __future__ import annotations

import re

from edgeopt.core.device import DeviceFacts
from edgeopt.core.formats import reads
from edgeopt_targets.rules._base import Question, Rule
from edgeopt_targets.runtimes import RUNTIMES
from edgeopt_targets.wheel_versions import SOURCE, installable, newest_wheel, userland

_LARGEST_32_BIT = 3 << 30
_SHARE = {"int8": 4, "int4": 8, "float16": 2}


def machine(question: Question) -> str | None:
    """Another kind of computer than the profile is for."""
    profile, facts = question.profile, question.facts
    if profile.machine and facts.machine not in profile.machine:
        return f"the device is {facts.machine}, not {' or '.join(profile.machine)}"
    if profile.bits not in (0, facts.bits):
        return f"the device's userland is {facts.bits}-bit, profile {profile.name} is for {profile.bits}-bit ones"
    return None


def denied_wheel(question: Question) -> str | None:
    """A release that is installed and known to be broken on such a device."""
    found = [(one.name, one.version) for one in question.facts.runtimes]
    found += [(one.name, one.version) for one in question.facts.packages]
    for runtime, version in found:
        if runtime in question.profile.runtimes and (why := denied(runtime, version, question.facts)):
            return f"{runtime} {version} on the device {why} (install another release)"
    return None


def denied(runtime: str, version: str, facts: DeviceFacts) -> str:
    """What is wrong with a release of a runtime on a device; empty: nothing that is known."""
    dies = (
        runtime == "onnxruntime" and re.match(r"1\.21\.0(\D|$)", version) and re.search(r"Cortex-A(53|72)", facts.cpu)
    )
    return "dies of an illegal instruction on Cortex-A53 and A72" if dies else ""


def runtime_absent(question: Question) -> str | None:
    """No runtime on the device reads what the recipe ends in; says which one could be installed."""
    if question.runtimes:
        return None
    facts = question.facts
    able = [name for name in question.profile.runtimes if reads(name, question.format)]
    if not able:
        fitting = [name for name in RUNTIMES if reads(name, question.format)]
        return (
            f"profile {question.profile.name} has no runtime for .{question.format} files "
            f"({', '.join(fitting) or 'nobody'} would read them)"
        )
    missing = f"the device has none of {', '.join(able)}"
    if name := installable(able, facts):
        version = newest_wheel(name, facts)
        return f"{missing} (edgeopt device provision installs {name}{f' {version}' if version else ''})"
    where = f"Python {facts.python} with {facts.libc or 'an unknown libc'} on {userland(facts)}"
    other = installable((name for name in question.profile.runtimes if name not in able), facts)
    instead = f"; there is one of {other}, which reads other files" if other else ""
    return f"{missing}, and there is no wheel of them for {where}{instead}"


def memory(question: Question) -> str | None:
    """Weights that the memory cannot hold with half as much again for everything else."""
    facts = question.facts
    needed = 1.5 * question.model.size_bytes / (_SHARE.get(question.recipe.precision, 1) if question.passes else 1)
    if 0 < facts.memory_bytes < needed:
        return f"it needs about {_mib(needed)} of memory, the device has {_mib(facts.memory_bytes)}"
    return None


def address_space(question: Question) -> str | None:
    """A file that a 32-bit process cannot map beside a copy of its weights."""
    needed = 2 * question.model.size_bytes / (_SHARE.get(question.recipe.precision, 1) if question.passes else 1)
    if question.facts.bits == 32 and needed > _LARGEST_32_BIT:
        return f"a 32-bit process has room for {_mib(_LARGEST_32_BIT)}, loading takes about {_mib(needed)}"
    return None


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / (1 << 20):.0f} MiB"


RULES = (
    Rule("machine", "uname -m of the device", machine),
    Rule("denied-wheel", "github.com/microsoft/onnxruntime/issues/23957", denied_wheel),
    Rule("runtime-absent", SOURCE, runtime_absent),
    Rule("memory", "weights of the file, once and a half; MemTotal of the device", memory),
    Rule("address-space", "Linux, 3 GiB for a 32-bit process (VMSPLIT_3G)", address_space),
)
