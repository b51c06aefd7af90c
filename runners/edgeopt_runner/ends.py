"""What a worker's death is called: signals, the kernel's OOM killer and silence told apart."""

import signal
from typing import Optional, Tuple

from edgeopt_runner import memory, processes
from edgeopt_runner.board import THIS, Board
from edgeopt_runner.protocol import CRASH, ILLEGAL_INSTRUCTION, OOM

_COUNTERS = {1: "memory.oom_control", 2: "memory.events"}


def oom_kills(board: Board = THIS) -> Optional[int]:
    """Kills by the kernel's OOM killer since boot that may concern us: the system's and our control groups'.

    ``None`` where this kernel does not count them (before 4.13).
    """
    texts = [board.read("/proc/vmstat")]
    for version, mount, path in memory.control_groups(board):
        texts.append(board.read("/".join([mount + path.rstrip("/"), _COUNTERS[version]])))
    counts = [memory.parse_counters(text).get("oom_kill") for text in texts]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


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
    if -returncode == signal.SIGILL:
        return ILLEGAL_INSTRUCTION, "the worker used an instruction that this CPU does not have (SIGILL)%s" % said
    if -returncode == signal.SIGKILL and (kills or kills is None and short_of_memory):
        return OOM, "the kernel killed the worker because memory ran out"
    return CRASH, "the worker was ended by %s%s" % (processes.signal_name(-returncode), said)
