"""What the board draws now, rail by rail, and what of the board that covers.

Watts of two boards compare only where the scope is the same.
"""

import re
from typing import Any, Dict, Optional

from edgeopt_runner import jetson, raspberry, tegrastats
from edgeopt_runner.board import THIS, Board

_INPUTS = ("VIN", "VDD_IN", "POM_5V_IN")
"""Rails that feed everything else on a Jetson."""

_CHANNEL = re.compile(r"in([0-9])_label\Z")
_SUM_CHANNEL = "7"
_TEGRASTATS = ["tegrastats", "--interval", "500"]


def read(board: Board = THIS, commands: bool = True) -> Optional[Dict[str, Any]]:
    """Power now.

    Args:
        board: Where it is read.
        commands: Whether the vendor's tools may be asked where no file tells it, which takes up to two seconds.

    Returns:
        ``source``, ``scope``, ``milliwatts`` and ``rails`` (milliwatts by name); ``None`` where nothing is measured.
    """
    for source, rails in (("hwmon", _hwmon(board)), ("iio", _iio(board))):
        if rails:
            return _reading(source, rails)
    if not commands:
        return None
    rails = raspberry.rails(board)
    if rails:
        return _reading("vcgencmd", rails)
    rails = _of_tegrastats(board)
    return _reading("tegrastats", rails) if rails else None


def energy(
    idle: Optional[Dict[str, Any]], milliwatts: Optional[float], seconds: float, runs: int
) -> Optional[Dict[str, Any]]:
    """What one inference took.

    Args:
        idle: A reading before the model was loaded.
        milliwatts: Mean of the same rails during the measured phase.
        seconds: How long that phase took.
        runs: Inferences in it.

    Returns:
        ``scope``, ``milliwatts``, ``idle_milliwatts``, ``millijoules`` of one inference, and
        ``millijoules_above_idle``; ``None`` where no power was measured while it ran.
    """
    if idle is None or milliwatts is None or runs < 1 or seconds <= 0:
        return None
    each = seconds / runs
    return {
        "scope": idle["scope"],
        "milliwatts": milliwatts,
        "idle_milliwatts": idle["milliwatts"],
        "millijoules": milliwatts * each,
        "millijoules_above_idle": (milliwatts - idle["milliwatts"]) * each,
    }


def _reading(source: str, rails: Dict[str, float]) -> Dict[str, Any]:
    whole = next((name for name in _INPUTS if name in rails), None)
    scope = "input %s" % whole if whole else "sum of %d rails" % len(rails)
    milliwatts = rails[whole] if whole else sum(rails.values())
    return {
        "source": source,
        "scope": scope,
        "milliwatts": round(milliwatts, 1),
        "rails": {name: round(value, 1) for name, value in rails.items()},
    }


def _hwmon(board: Board) -> Dict[str, float]:
    """INA3221 from JetPack 5 on: millivolts and milliamperes of each channel."""
    found: Dict[str, float] = {}
    for path in board.glob("/sys/class/hwmon/hwmon*/in[0-9]_label"):
        folder, _, name = path.rpartition("/")
        channel = _CHANNEL.match(name)
        label = board.read(path)
        if channel is None or channel.group(1) == _SUM_CHANNEL or not label or label == "NC":
            continue
        millivolts = board.number("%s/in%s_input" % (folder, channel.group(1)))
        milliamperes = board.number("%s/curr%s_input" % (folder, channel.group(1)))
        if millivolts is not None and milliamperes is not None:
            found[label] = millivolts * milliamperes / 1000.0
    return found


def _iio(board: Board) -> Dict[str, float]:
    """INA3221x of JetPack 4: milliwatts of each rail."""
    found: Dict[str, float] = {}
    for path in board.glob("/sys/bus/iio/devices/iio:device*/rail_name_[0-9]"):
        folder, _, name = path.rpartition("/")
        label, milliwatts = board.read(path), board.number("%s/in_power%s_input" % (folder, name[-1]))
        if label and label != "NC" and milliwatts is not None:
            found[label] = float(milliwatts)
    return found


def _of_tegrastats(board: Board) -> Dict[str, float]:
    if not jetson.tegra(board):
        return {}
    lines = (board.command(_TEGRASTATS, whatever=True) or "").splitlines()
    rails = tegrastats.parse(lines[-1]).milliwatts if lines else {}
    return {name: float(now) for name, (now, _) in rails.items()}
