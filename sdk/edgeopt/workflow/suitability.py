"""What the doctor says of a device's runtimes by what is known of releases: broken, old, or to be had."""

from __future__ import annotations

from edgeopt.core.device import DeviceFacts
from edgeopt.remote.doctor import Check, Judge
from edgeopt_targets.onnxruntime_versions import reads
from edgeopt_targets.rules.device import denied
from edgeopt_targets.runtimes import RUNTIMES
from edgeopt_targets.wheel_versions import newest_wheel, userland

_ARM = ("aarch64", "arm64", "armv7l", "armv6l")
"""Where wheels are scarce, so that a table of them is kept; everywhere else pip finds them."""


def broken_releases(facts: DeviceFacts) -> Check:
    """Releases that are installed and known to fail on such a device."""
    found = {(one.name, one.version) for one in facts.runtimes}
    found |= {(one.name, one.version) for one in facts.packages}
    bad = [(name, version, why) for name, version in sorted(found) if (why := denied(name, version, facts))]
    if not bad:
        return Check("releases", True, "none is known to fail on such a board")
    name, newest = bad[0][0], newest_wheel(bad[0][0], facts)
    detail = ", ".join(f"{name} {version} {why}" for name, version, why in bad)
    remedy = f"Install another{f', {newest}' if newest else ''}: edgeopt device provision NAME --runtime {name}."
    return Check("releases", False, detail, remedy)


def onnx_versions(facts: DeviceFacts) -> Check:
    """What its onnxruntime reads; newer networks are lowered, so it is never bad."""
    runtime = facts.runtime("onnxruntime")
    limits = reads(runtime.version) if runtime else None
    if runtime is None or limits is None:
        return Check("ONNX", True, "nothing is known to be too new" if runtime else "no onnxruntime")
    return Check(
        "ONNX",
        True,
        f"onnxruntime {runtime.version} reads opsets up to {limits[0]}, IR versions up to {limits[1]}; what is newer "
        "is lowered where that is exact",
    )


def to_be_had(facts: DeviceFacts) -> Check:
    """Which runtimes pip can install there; bad where it has none and can have none."""
    wheels = {name: newest_wheel(name, facts) for name in RUNTIMES}
    listed = ", ".join(f"{name} {version}" for name, version in wheels.items() if version)
    where = f"Python {facts.python} with {facts.libc or 'an unknown libc'} on {userland(facts)}"
    if listed or facts.runtimes or facts.machine not in _ARM:
        return Check("can have", True, listed or f"what pip finds for {where}")
    remedy = (
        "Put a 64-bit image with Python 3.9 or later on it, or bring wheels: edgeopt device provision --wheelhouse."
    )
    return Check("can have", False, f"no wheel of a runtime is known for {where}", remedy)


SUITABILITY: tuple[Judge, ...] = (broken_releases, onnx_versions, to_be_had)
