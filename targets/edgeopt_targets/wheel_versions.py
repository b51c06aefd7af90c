"""Which wheels there are for ARM boards, so that nothing is promised that pip cannot install.

Source: dry runs of pip with the tags of board images, November 2026. A pair of package and machine that is not in the
table was not looked at, and nothing is said of it; neither of a Python that is newer than those that were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeopt.core.device import DeviceFacts
from edgeopt_targets.runtimes import requirements

SOURCE = "package index, tried with pip in November 2026"
_NEWEST_PYTHON = 13
_AARCH64, _ARMV7 = "aarch64", "armv7l"


@dataclass(frozen=True)
class _Row:
    """Wheels of one version: for Python 3.`first` to 3.`last` and glibc 2.`glibc` or later."""

    first: int
    last: int
    version: str
    glibc: int


_WHEELS: dict[tuple[str, str], tuple[_Row, ...]] = {
    ("onnxruntime", _AARCH64): (
        _Row(6, 6, "1.10.0", 27),
        _Row(7, 7, "1.14.1", 27),
        _Row(8, 9, "1.19.2", 27),
        _Row(10, 10, "1.23.2", 27),
        _Row(11, 13, "1.32.0", 28),
        _Row(11, 13, "1.28.0", 27),
    ),
    ("onnxruntime", _ARMV7): (),
    ("litert", _AARCH64): (_Row(9, 9, "2.1.0", 27), _Row(10, 13, "2.3.0", 27)),
    ("litert", _ARMV7): (),
    ("tflite_runtime", _AARCH64): (_Row(8, 11, "2.14.0", 34), _Row(8, 9, "2.13.0", 31)),
    ("tflite_runtime", _ARMV7): (_Row(8, 11, "2.14.0", 34), _Row(9, 9, "2.13.0", 31)),
    ("openvino", _AARCH64): (
        _Row(8, 8, "2024.4.0", 31),
        _Row(9, 9, "2025.2.0", 31),
        _Row(10, 13, "2026.4.1", 35),
    ),
    ("openvino", _ARMV7): (),
    ("executorch", _AARCH64): (_Row(10, 14, "1.5.1", 28),),
    ("executorch", _ARMV7): (),
    ("ncnn", _AARCH64): (_Row(8, 8, "1.0.20260526", 31), _Row(9, 13, "1.0.20261020", 31)),
    ("ncnn", _ARMV7): (_Row(9, 12, "1.0.20261020", 31),),
    ("mnn", _AARCH64): (_Row(8, 13, "3.6.1", 31),),
    ("mnn", _ARMV7): (),
}
"""By runtime and machine, the best first."""


def userland(facts: DeviceFacts) -> str:
    """The machine that wheels must be for: 32-bit userlands on 64-bit kernels say ``aarch64`` and mean ``armv7l``."""
    return _ARMV7 if facts.bits == 32 and facts.machine in (_AARCH64, "armv8l", _ARMV7) else facts.machine


def newest_wheel(runtime: str, facts: DeviceFacts) -> str:
    """Version of the newest wheel for a device; empty where there is none or nothing is known."""
    return next((row.version for row in _fitting(runtime, facts)), "")


def no_wheel(runtime: str, facts: DeviceFacts) -> bool:
    """Whether it is known that pip finds no wheel of a runtime for the device."""
    if not requirements(runtime) or facts.libc.startswith("musl"):
        return True
    minor = _python_minor(facts)
    looked_at = (runtime, userland(facts)) in _WHEELS and minor is not None and minor <= _NEWEST_PYTHON
    return looked_at and not newest_wheel(runtime, facts)


def installable(runtimes: Iterable[str], facts: DeviceFacts) -> str:
    """The first of the runtimes that can be provisioned as far as anybody knows; empty: none."""
    return next((name for name in runtimes if not no_wheel(name, facts)), "")


def _fitting(runtime: str, facts: DeviceFacts) -> list[_Row]:
    minor = _python_minor(facts)
    libc = re.fullmatch(r"glibc 2\.(\d{1,3})", facts.libc.strip())
    if minor is None:
        return []
    rows = _WHEELS.get((runtime, userland(facts)), ())
    return [row for row in rows if row.first <= minor <= row.last and (libc is None or row.glibc <= int(libc[1]))]


def _python_minor(facts: DeviceFacts) -> int | None:
    match = re.match(r"3\.(\d{1,3})(\D|$)", facts.python)
    return int(match[1]) if match else None
