"""Clocks and power modes: governor, frequencies, time in each frequency, turbo, the vendor's power mode."""

from typing import Dict, List, Optional

from edgeopt_runner import jetson
from edgeopt_runner.board import THIS, Board, integer

_POLICIES = ("/sys/devices/system/cpu/cpufreq/policy*", "/sys/devices/system/cpu/cpu[0-9]*/cpufreq")
"""Where the kernel has its frequency policies; the second on kernels before 4.3, once for each core."""

_MOST_CLOCKS = 16


def _all(board: Board, name: str) -> List[str]:
    policies = board.glob(_POLICIES[0]) or board.glob(_POLICIES[1])
    texts = [board.read(policy + "/" + name) for policy in policies]
    return [text for text in texts if text]


def governor(board: Board = THIS) -> str:
    """Names of the frequency governors in use, joined by ``+``; empty where there is none."""
    return "+".join(sorted(set(_all(board, "scaling_governor"))))


def power_mode(board: Board = THIS) -> str:
    """The vendor's power mode: NVIDIA's `nvpmodel`, ACPI's platform profile, Intel's preference; else empty."""
    nvidia = jetson.power_mode(board)
    if nvidia:
        return nvidia
    profile = board.read("/sys/firmware/acpi/platform_profile")
    return profile or "+".join(sorted(set(_all(board, "energy_performance_preference"))))


def turbo_off(board: Board = THIS) -> Optional[bool]:
    """Whether turbo is switched off; ``None`` where the CPU driver does not say."""
    no_turbo = board.number("/sys/devices/system/cpu/intel_pstate/no_turbo")
    if no_turbo is not None:
        return bool(no_turbo)
    boost = board.number("/sys/devices/system/cpu/cpufreq/boost")
    return None if boost is None else not boost


def frequencies(board: Board = THIS) -> Optional[Dict[str, int]]:
    """Kilohertz: the smallest ``min`` and largest ``max`` that the governor may choose, and the largest ``current``."""
    found: Dict[str, int] = {}
    for key, name, choose in (
        ("min", "scaling_min_freq", min),
        ("max", "scaling_max_freq", max),
        ("current", "scaling_cur_freq", max),
    ):
        values = _numbers(board, name)
        if values:
            found[key] = choose(values)
    return found or None


def clock_files(board: Board = THIS) -> List[str]:
    """The files with the clocks of now, to be read again and again without being looked for again."""
    policies = board.glob(_POLICIES[0]) or board.glob(_POLICIES[1])
    paths = (policy + "/scaling_cur_freq" for policy in policies)
    return [path for path in paths if board.number(path) is not None][:_MOST_CLOCKS]


def max_kilohertz(board: Board = THIS) -> Optional[int]:
    """The highest clock of the fastest core that the hardware allows, whatever the governor may choose now."""
    return max(_numbers(board, "cpuinfo_max_freq"), default=None)


def _numbers(board: Board, name: str) -> List[int]:
    numbers = (integer(text) for text in _all(board, name))
    return [number for number in numbers if number is not None and number > 0]


def parse_time_in_state(text: str) -> Dict[int, int]:
    """Ticks by kilohertz, from lines ``600000 12345``; lines of another form are skipped."""
    found: Dict[int, int] = {}
    for line in text.splitlines():
        pair = [integer(word) for word in line.split()]
        if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
            found[pair[0]] = pair[1]
    return found


def time_in_state(board: Board = THIS) -> Optional[Dict[str, int]]:
    """Ticks by kilohertz (as text, for JSON), over all frequency policies."""
    total: Dict[str, int] = {}
    for text in _all(board, "stats/time_in_state"):
        for kilohertz, ticks in parse_time_in_state(text).items():
            total[str(kilohertz)] = total.get(str(kilohertz), 0) + ticks
    return total or None


def mean_kilohertz(before: Optional[Dict[str, int]], after: Optional[Dict[str, int]]) -> Optional[int]:
    """Mean frequency between two readings of `time_in_state`; ``None`` where nothing was counted."""
    if before is None or after is None:
        return None
    spent = {int(key): ticks - before.get(key, 0) for key, ticks in after.items()}
    total = sum(spent.values())
    return sum(key * ticks for key, ticks in spent.items()) // total if total > 0 else None
