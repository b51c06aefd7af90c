"""What a worker's death is called: signals, the kernel's OOM killer and silence told apart."""

import re
import signal
from typing import Optional, Tuple

from edgeopt_runner.protocol import CRASH, ILLEGAL_INSTRUCTION, OOM

_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_CGROUP_V1 = "/sys/fs/cgroup/memory%s/memory.oom_control"
_CGROUP_V2 = "/sys/fs/cgroup%s/memory.events"


def _read(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _counter_files() -> Tuple[str, ...]:
    """The files that may count OOM kills that concern us: the whole system and our own control group."""
    paths = ["/proc/vmstat"]
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        path = path.rstrip("/")
        if "memory" in controllers.split(","):
            paths.append(_CGROUP_V1 % path)
        elif not controllers:
            paths.append(_CGROUP_V2 % path)
    return tuple(paths)


def oom_kills() -> Optional[int]:
    """Kills by the kernel's OOM killer since boot; ``None`` where this kernel does not count them (before 4.13)."""
    found = [_OOM_KILL.search(_read(path)) for path in _counter_files()]
    counts = [int(match.group(1)) for match in found if match]
    return sum(counts) if counts else None


def name_end(returncode: int, kills: Optional[int], short_of_memory: bool, last_line: str) -> Tuple[str, str]:
    """Status and detail of a worker that ended without a result and that we did not kill.

    Args:
        returncode: As `subprocess` gives it, negative for signals.
        kills: OOM kills while it ran; ``None`` when the kernel does not count.
        short_of_memory: Whether memory was nearly out at some time; decides where the kernel does not count.
        last_line: What it printed last.
    """
    said = "; last output: %s" % last_line if last_line else ""
    if returncode >= 0:
        return CRASH, "the worker exited with code %d and no result%s" % (returncode, said)
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "signal %d" % -returncode
    if -returncode == signal.SIGILL:
        return ILLEGAL_INSTRUCTION, "the worker used an instruction that this CPU does not have (SIGILL)%s" % said
    if -returncode == signal.SIGKILL and (kills or kills is None and short_of_memory):
        return OOM, "the kernel killed the worker because memory ran out"
    return CRASH, "the worker was ended by %s%s" % (name, said)
