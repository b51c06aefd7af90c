"""What only a Raspberry Pi tells: the firmware's throttle bits, clock, temperature and supply, by ``vcgencmd``.

The kernel's files do not tell all of it: the firmware lowers the clock behind the kernel's back.
"""

import re
from typing import Dict, List, Optional

from edgeopt_runner.board import THIS, Board

LIVE_BITS = 0xF
"""Conditions that hold now; the same shifted by 16: since boot."""

_CONDITIONS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of ``get_throttled`` (Raspberry Pi documentation, os.adoc, "get_throttled")."""

_SINCE_BOOT = 16
_BITS = re.compile(r"\A(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})\Z")
_TEMPERATURE = re.compile(r"temp=(-?[0-9]{1,3}(?:\.[0-9]{1,3})?)")
_CLOCK = re.compile(r"frequency\([0-9]{1,3}\)=([0-9]{4,12})\b")
_RAIL = re.compile(r"(\w+)_(?:A current|V volt)\([0-9]{1,3}\)=([0-9]{1,4}\.[0-9]{1,12})([AV])\b")
_THROTTLED_FILES = "/sys/devices/platform/soc*/soc*:firmware/get_throttled"


def is_pi(board: Board = THIS) -> bool:
    """Whether the device tree names a Raspberry Pi."""
    return any(name.startswith("raspberrypi,") for name in board.tree("compatible")) or any(
        name.startswith("Raspberry Pi") for name in board.tree("model")
    )


def parse_throttled(text: Optional[str]) -> Optional[int]:
    """Bits of ``throttled=0x50005`` (vcgencmd) or ``50005`` (sysfs, hexadecimal too)."""
    found = _BITS.match((text or "").strip())
    return int(found.group(1), 16) if found else None


def conditions(bits: Optional[int]) -> List[str]:
    """The bits by name: ``under-voltage now``, ``throttled since boot``; none where there are none."""
    found = []
    for when, shift in (("now", 0), ("since boot", _SINCE_BOOT)):
        found += ["%s %s" % (name, when) for bit, name in enumerate(_CONDITIONS) if (bits or 0) >> (bit + shift) & 1]
    return found


def was_throttled(before: Optional[int], after: Optional[int]) -> bool:
    """A live bit at either end, or a since-boot bit that is new: one that was set already hides what came later."""
    if before is None or after is None:
        return False
    return bool((before | after) & LIVE_BITS or (after & ~before) >> _SINCE_BOOT)


def parse_temperature(text: Optional[str]) -> Optional[float]:
    """Degrees Celsius of ``temp=48.3'C``."""
    found = _TEMPERATURE.search(text or "")
    return float(found.group(1)) if found else None


def parse_clock(text: Optional[str]) -> Optional[int]:
    """Kilohertz of ``frequency(48)=1500398464``; the number in brackets differs by model."""
    found = _CLOCK.search(text or "")
    return int(found.group(1)) // 1000 if found else None


def parse_rails(text: Optional[str]) -> Dict[str, float]:
    """Milliwatts by rail from ``pmic_read_adc`` of a Pi 5, where a rail has both a current and a voltage."""
    found: Dict[str, Dict[str, float]] = {}
    for name, value, unit in _RAIL.findall(text or ""):
        found.setdefault(name, {})[unit] = float(value)
    return {name: 1000.0 * rail["A"] * rail["V"] for name, rail in found.items() if len(rail) == 2}


def throttled(board: Board = THIS, commands: bool = True) -> Optional[int]:
    """The throttle bits: the firmware's command first, for its copy in sysfs may be wrong (raspberrypi/linux #2367)."""
    copies = board.glob(_THROTTLED_FILES)
    if not copies and not is_pi(board):
        return None
    bits = parse_throttled(board.command(["vcgencmd", "get_throttled"])) if commands else None
    return bits if bits is not None or not copies else parse_throttled(board.read(copies[0]))


def clock_khz(board: Board = THIS) -> Optional[int]:
    """The cores' clock as the firmware has it, in kilohertz."""
    return parse_clock(board.command(["vcgencmd", "measure_clock", "arm"])) if is_pi(board) else None


def temperature(board: Board = THIS) -> Optional[float]:
    """The SoC's temperature as the firmware has it, in degrees Celsius."""
    return parse_temperature(board.command(["vcgencmd", "measure_temp"])) if is_pi(board) else None


def rails(board: Board = THIS) -> Dict[str, float]:
    """Milliwatts by rail of the PMIC; none but on a Pi 5 and its relatives."""
    return parse_rails(board.command(["vcgencmd", "pmic_read_adc"])) if is_pi(board) else {}
