"""Memory: peaks of this process by phase, what the board has left, limits of containers.

Peaks are VmHWM, set back between phases through `/proc/self/clear_refs`; where the kernel refuses that, a phase's peak
is the largest so far.
"""

import os
import re
from typing import Dict, List, Optional, Tuple

from edgeopt_runner.board import THIS, Board, integer

_NO_LIMIT_BYTES = 1 << 60
_AVAILABLE = re.compile(r"^MemAvailable:\s+([0-9]{1,12}) kB$", re.MULTILINE)


def parse_kib_fields(text: Optional[str]) -> Dict[str, int]:
    """Bytes by name, from lines ``Name:  123 kB`` (`meminfo`, `status`, `smaps_rollup`)."""
    found: Dict[str, int] = {}
    for line in (text or "").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        count = integer(words[0]) if len(words) == 2 and words[1] == "kB" else None
        if count is not None and 0 <= count < _NO_LIMIT_BYTES // 1024:
            found[name] = count * 1024
    return found


def parse_counters(text: Optional[str]) -> Dict[str, int]:
    """Counters by name, from lines ``name 123`` (`vmstat`)."""
    pairs = [line.split() for line in (text or "").splitlines()]
    counts = {pair[0]: integer(pair[1]) for pair in pairs if len(pair) == 2}
    return {name: count for name, count in counts.items() if count is not None}


def available_bytes(board: Board = THIS) -> Optional[int]:
    """MemAvailable; on kernels before 3.14, which have none, free plus cached.

    Two processes ask ten times a second while a model is timed: to parse all fields would take a tenth of a small core.
    """
    text = board.read("/proc/meminfo")
    found = _AVAILABLE.search(text or "")
    if found:
        return int(found.group(1)) * 1024
    fields = parse_kib_fields(text)
    return fields["MemFree"] + fields.get("Cached", 0) if "MemFree" in fields else None


def total_bytes(board: Board = THIS) -> int:
    """MemTotal: installed memory, less what the kernel keeps for itself; 0 where the board does not say."""
    return parse_kib_fields(board.read("/proc/meminfo")).get("MemTotal", 0)


def installed_bytes(board: Board = THIS) -> int:
    """Installed memory, or the limit that a container sets; 0 where the board does not say."""
    total, limit = total_bytes(board), container_limit_bytes(board)
    return min(total, limit) if limit is not None and total else total


def container_limit_bytes(board: Board = THIS) -> Optional[int]:
    """The smallest memory limit of our control group and its parents, version 1 or 2."""
    limits: List[int] = []
    for version, mount, path in control_groups(board):
        limits += _limits_up(board, mount, path, "memory.max" if version == 2 else "memory.limit_in_bytes")
    return min(limits) if limits else None


def control_groups(board: Board = THIS) -> List[Tuple[int, str, str]]:
    """Our control groups that count memory: version (1 or 2), where their tree is mounted, and the path in it."""
    found = []
    for line in (board.read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not controllers:
            found.append((2, "/sys/fs/cgroup", path))
        elif "memory" in controllers.split(","):
            found.append((1, "/sys/fs/cgroup/memory", path))
    return found


def _limits_up(board: Board, mount: str, path: str, name: str) -> List[int]:
    """Limits from a group up to the root; inside a container the group's own path may not be there."""
    parts, found = [part for part in path.split("/") if part], []
    for length in range(len(parts), -1, -1):
        value = board.number("/".join([mount] + parts[:length] + [name]))
        if value is not None and value < _NO_LIMIT_BYTES:
            found.append(value)
    return found


def reset_peak() -> bool:
    """Set this process's VmHWM back to what is resident now; ``False`` where the kernel does not let us."""
    try:
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")
    except OSError:
        return False
    return True


def peak_bytes() -> Optional[int]:
    """VmHWM of this process."""
    return parse_kib_fields(THIS.read("/proc/self/status")).get("VmHWM")


def resident_bytes(pid: int) -> int:
    """What a process has in memory now; 0 when it is gone."""
    fields = (THIS.read("/proc/%d/statm" % pid) or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def swapped_bytes() -> Optional[int]:
    """How much of this process is in swap."""
    return parse_kib_fields(THIS.read("/proc/self/status")).get("VmSwap")


def proportional_bytes() -> Optional[int]:
    """PSS of this process; ``None`` before Linux 4.14."""
    return parse_kib_fields(THIS.read("/proc/self/smaps_rollup")).get("Pss")
