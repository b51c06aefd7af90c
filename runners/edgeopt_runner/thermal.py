"""Heat: temperatures, signs of throttling, and waiting for a board to cool down.

A board cools by temperature, not by a fixed sleep: how long that takes depends on its case and its last hour.
"""

import time
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner import raspberry
from edgeopt_runner.board import THIS, Board, integer

_CPU_WORDS = ("cpu", "pkg", "core", "soc", "k10temp", "zenpower", "tctl", "tdie")
_BOGUS_WORDS = ("pmic",)
"""A Jetson's PMIC reads 100 °C whatever happens."""

_LIMITING_WORDS = ("cpufreq", "processor", "gpufreq")
_SUPPLY_CHIPS = ("rpi_volt", "ina3221")
_COOLDOWN_STEP_SECONDS = 1.0
_SLOPE_SECONDS = 10.0
_SLOPE_CELSIUS = 0.5


def parse_millicelsius(text: Optional[str]) -> Optional[float]:
    """Degrees Celsius from a sysfs value; ``None`` for a sensor that is off (below -40) or absurd (above 150)."""
    value = integer(text)
    return value / 1000.0 if value is not None and -40000 < value < 150000 else None


def temperatures(board: Board = THIS) -> Dict[str, float]:
    """Degrees Celsius by sensor, from thermal zones and hwmon."""
    found: Dict[str, float] = {}
    for zone in board.glob("/sys/class/thermal/thermal_zone*"):
        name = "%s %s" % (zone[len("/sys/class/thermal/") :], board.read(zone + "/type") or "?")
        _keep(found, name, board.read(zone + "/temp"))
    for path in board.glob("/sys/class/hwmon/hwmon*/temp*_input"):
        folder, _, sensor = path.rpartition("/")
        _keep(found, "%s %s" % (board.read(folder + "/name") or "?", sensor[: -len("_input")]), board.read(path))
    return found


def _keep(found: Dict[str, float], name: str, text: Optional[str]) -> None:
    value = parse_millicelsius(text)
    if value is not None:
        found[name] = value


def temperature(board: Board = THIS, commands: bool = True) -> Optional[float]:
    """The hottest sensor of the CPU; of the whole board where none names the CPU; ``None`` where there is none."""
    found = {name.lower(): value for name, value in temperatures(board).items()}
    found = {name: value for name, value in found.items() if not any(word in name for word in _BOGUS_WORDS)}
    cpu = [value for name, value in found.items() if any(word in name for word in _CPU_WORDS)]
    values = cpu or list(found.values())
    if values:
        return max(values)
    return raspberry.temperature(board) if commands else None


def throttle_count(board: Board = THIS) -> Optional[int]:
    """x86: events of thermal throttling since boot, over all cores and packages."""
    paths = board.glob("/sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
    counts = [board.number(path) for path in paths]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def cooling_state(board: Board = THIS) -> Optional[int]:
    """Sum of the states of the devices that cool by a lower clock; above 0 the kernel holds it down."""
    states: List[int] = []
    for device in board.glob("/sys/class/thermal/cooling_device*"):
        state = board.number(device + "/cur_state")
        kind = (board.read(device + "/type") or "").lower()
        if state is not None and state >= 0 and any(word in kind for word in _LIMITING_WORDS):
            states.append(state)
    return sum(states) if states else None


def supply_alarms(board: Board = THIS) -> List[str]:
    """Alarms of the supply that are on: under-voltage of a Raspberry Pi, over-current of a Jetson's rails."""
    found: List[str] = []
    for folder in board.glob("/sys/class/hwmon/hwmon*"):
        if board.read(folder + "/name") not in _SUPPLY_CHIPS:
            continue
        for name in board.names(folder):
            if name.endswith("crit_alarm") and board.number("%s/%s" % (folder, name)) == 1:
                label = board.read("%s/%s_label" % (folder, name.partition("_")[0].replace("curr", "in"))) or ""
                found.append(" ".join(part for part in (label, name[: -len("_alarm")], "alarm") if part))
    return found


def cool_down(
    limit_celsius: Optional[float],
    cap_seconds: float,
    read: Callable[[], Optional[float]] = temperature,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Dict[str, Any]:
    """Wait until the board is cool enough, stops cooling (less than 0.5 °C in 10 s), or the time is over.

    Returns:
        ``start_celsius``, ``end_celsius`` (``None`` without a sensor), ``waited_seconds``, and ``hot``: whether it is
        still above the limit.
    """
    begin, celsius = clock(), read()
    seen = [(begin, celsius)]
    while limit_celsius is not None and celsius is not None and celsius > limit_celsius:
        now = clock()
        old = [value for moment, value in seen if now - moment >= _SLOPE_SECONDS]
        if now - begin >= cap_seconds or (old and old[-1] is not None and old[-1] - celsius < _SLOPE_CELSIUS):
            break
        sleep(min(_COOLDOWN_STEP_SECONDS, cap_seconds))
        celsius = read()
        seen.append((clock(), celsius))
    hot = limit_celsius is not None and celsius is not None and celsius > limit_celsius
    waited = clock() - begin
    return {"start_celsius": seen[0][1], "end_celsius": celsius, "waited_seconds": waited, "hot": hot}
