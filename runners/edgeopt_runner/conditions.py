"""Under which conditions a measurement was taken: snapshots before and after, their differences, and the flags.

Flags weaken or void a measurement; the numbers behind them are evidence. What a board does not tell is ``None``.
"""

import os
import re
import resource
import time
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner import jetson, memory, power, rails, raspberry, thermal
from edgeopt_runner.board import THIS, Board, integer

IDLE_SHARE = 0.85
OTHERS_SHARE = 0.15
_PRESSURE = re.compile(r"avg10=([0-9]{1,3}(?:\.[0-9]{1,4})?)\Z")
_DECIMAL = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,4})?\Z")
_QUICK_IDLE_SECONDS = 0.2
_IDLE_SECONDS = 1.0
_IDLE_TRIES = 5
_STEADY = ("governor", "power_mode", "turbo_off", "cpus_online")
_COUNTED = (
    "throttle_count",
    "over_current_events",
    "swap_in_pages",
    "swap_out_pages",
    "major_faults",
    "voluntary_switches",
    "involuntary_switches",
)


class CpuTimes:
    """Busy and all ticks of all CPUs since boot. Stolen time is busy: a neighbour had the CPU."""

    def __init__(self, busy: int, total: int) -> None:
        self.busy = busy
        self.total = total


def parse_cpu_times(text: Optional[str]) -> Optional[CpuTimes]:
    """From the first line of `/proc/stat`: user nice system idle iowait irq softirq steal guest guest_nice."""
    words = (text or "").split("\n", 1)[0].split()
    if len(words) < 5 or words[0] != "cpu":
        return None
    counts = [integer(word) for word in words[1:9]]  # guests are counted in user already
    ticks = [count for count in counts if count is not None and count >= 0]
    if len(ticks) < len(counts):
        return None
    return CpuTimes(sum(ticks) - sum(ticks[3:5]), sum(ticks))


def parse_pressure(text: Optional[str]) -> Optional[float]:
    """Share of the last ten seconds (0 to 1) in which some task waited, from a `/proc/pressure` file."""
    for word in (text or "").split():
        found = _PRESSURE.match(word)
        if found:
            return float(found.group(1)) / 100.0
    return None


def cpu_times(board: Board = THIS) -> Optional[CpuTimes]:
    """Ticks of all CPUs now."""
    return parse_cpu_times(board.read("/proc/stat"))


def busy_share(before: Optional[CpuTimes], after: Optional[CpuTimes], own_seconds: float = 0.0) -> Optional[float]:
    """Share of the board's CPU time (0 to 1) that was used between two readings, `own_seconds` of CPU not counted."""
    if before is None or after is None or after.total <= before.total:
        return None
    own_ticks = own_seconds * os.sysconf("SC_CLK_TCK")
    return min(1.0, max(0.0, (after.busy - before.busy - own_ticks) / (after.total - before.total)))


def idle_share(quick: bool, sleep: Callable[[float], None] = time.sleep, board: Board = THIS) -> Optional[float]:
    """Idle share of the board's CPUs before the start; other than a quick plan waits some seconds for a quiet one."""
    idle: Optional[float] = None
    for _ in range(1 if quick else _IDLE_TRIES):
        before = cpu_times(board)
        sleep(_QUICK_IDLE_SECONDS if quick else _IDLE_SECONDS)
        busy = busy_share(before, cpu_times(board))
        idle = None if busy is None else 1.0 - busy
        if idle is None or idle >= IDLE_SHARE:
            break
    return idle


def alarms(board: Board = THIS) -> List[str]:
    """What the board complains of now: heat and supply."""
    return raspberry.conditions(raspberry.throttled(board)) + thermal.supply_alarms(board)


def snapshot(board: Board = THIS) -> Dict[str, Any]:
    """The state of the board and of this process now, as JSON values."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    counters = memory.parse_counters(board.read("/proc/vmstat"))
    bits = raspberry.throttled(board)
    load = (board.read("/proc/loadavg") or "").split()
    return {
        "temperature_celsius": thermal.temperature(board),
        "temperatures_celsius": thermal.temperatures(board),
        "pi_throttled": bits,
        "alarms": raspberry.conditions(bits) + thermal.supply_alarms(board),
        "over_current_events": jetson.over_current_events(board),
        "throttle_count": thermal.throttle_count(board),
        "cooling_state": thermal.cooling_state(board),
        "governor": power.governor(board),
        "power_mode": power.power_mode(board),
        "turbo_off": power.turbo_off(board),
        "frequency_khz": power.frequencies(board),
        "firmware_khz": raspberry.clock_khz(board),
        "gpu_khz": jetson.gpu_khz(board),
        "time_in_state": power.time_in_state(board),
        "cpus_online": board.read("/sys/devices/system/cpu/online"),
        "load_1min": _share(load[0]) if load else None,
        "cpu_pressure": parse_pressure(board.read("/proc/pressure/cpu")),
        "memory_pressure": parse_pressure(board.read("/proc/pressure/memory")),
        "memory_available_bytes": memory.available_bytes(board),
        "swap_in_pages": counters.get("pswpin"),
        "swap_out_pages": counters.get("pswpout"),
        "process_swap_bytes": memory.swapped_bytes(),
        "major_faults": usage.ru_majflt,
        "voluntary_switches": usage.ru_nvcsw,
        "involuntary_switches": usage.ru_nivcsw,
        "power": rails.read(board),
    }


def _share(text: str) -> Optional[float]:
    return float(text) if _DECIMAL.match(text) else None


def differences(before: Dict[str, Any], after: Dict[str, Any]) -> Dict[str, Any]:
    """What the counters of two snapshots gained, and the mean clock between them."""
    gained: Dict[str, Any] = {}
    for name in _COUNTED:
        known = before.get(name) is not None and after.get(name) is not None
        gained[name] = after[name] - before[name] if known else None
    gained["mean_khz"] = power.mean_kilohertz(before.get("time_in_state"), after.get("time_in_state"))
    return gained


def flags(
    before: Dict[str, Any], after: Dict[str, Any], idle: Optional[float], others: Optional[float], hot: bool
) -> List[str]:
    """What weakens a measurement.

    Args:
        before: Snapshot before the model was loaded.
        after: Snapshot after the last timed run.
        idle: Idle share before the start.
        others: Share of the board's CPU time that other processes used during the measured phase.
        hot: Whether it started above the limit.

    Returns:
        Some of ``contended``, ``throttled``, ``swapped``, ``started_hot``, ``env_changed``.
    """
    gained = differences(before, after)
    found: List[str] = []
    if (idle is not None and idle < IDLE_SHARE) or (others is not None and others > OTHERS_SHARE):
        found.append("contended")
    if _was_throttled(before, after, gained):
        found.append("throttled")
    if gained["swap_in_pages"] or after.get("process_swap_bytes"):
        found.append("swapped")
    if hot:
        found.append("started_hot")
    if any(before.get(name) != after.get(name) for name in _STEADY) or _limits(before) != _limits(after):
        found.append("env_changed")
    return found


def _was_throttled(before: Dict[str, Any], after: Dict[str, Any], gained: Dict[str, Any]) -> bool:
    """Whether any of the ways in which boards tell it says that clocks were cut by heat or a weak supply."""
    if gained["throttle_count"] or gained["over_current_events"]:
        return True
    if before.get("cooling_state") or after.get("cooling_state"):
        return True
    return raspberry.was_throttled(before.get("pi_throttled"), after.get("pi_throttled"))


def _limits(state: Dict[str, Any]) -> Any:
    clocks = [state.get("frequency_khz") or {}, state.get("gpu_khz") or {}]
    return [(clock.get("min"), clock.get("max")) for clock in clocks]
