"""Processes as the kernel knows them: identity that PID reuse cannot fake, and how the runner starts itself again."""

import os
import signal
from typing import Any, Dict, List, Optional

import edgeopt_runner

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "800"
_BUNDLE = "edgeopt_runner.pyz"


def boot_id() -> str:
    """Changes with every boot; empty where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> Optional[int]:
    """When a process started, in clock ticks since boot; ``None`` when it is gone or only waits to be reaped.

    Read of its first thread: of ``/proc/<pid>/stat`` user-mode emulators show a process its own in their own making.
    """
    try:
        with open("/proc/%d/task/%d/stat" % (pid, pid), "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def identity(pid: int) -> Dict[str, Any]:
    """What names a process for good: its pid, its start and the boot."""
    return {"pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}


def alive(who: Dict[str, Any]) -> bool:
    """Whether the very process of an `identity` still runs."""
    pid, ticks = who.get("pid"), who.get("start_ticks")
    return isinstance(pid, int) and ticks is not None and who.get("boot_id") == boot_id() and start_ticks(pid) == ticks


def tasks() -> Optional[int]:
    """How many tasks (threads) the board has, by one look; ``None`` where the kernel does not say."""
    try:
        with open("/proc/loadavg") as stream:
            return int(stream.read().split()[3].partition("/")[2]) or None
    except (OSError, ValueError, IndexError):
        return None


def kill_group(who: Dict[str, Any], signum: int = signal.SIGKILL) -> None:
    """Signal the process group that the process of an `identity` leads, if that process still runs."""
    if alive(who):
        try:
            os.killpg(who["pid"], signum)
        except (ProcessLookupError, PermissionError):
            pass


def kill(pid: int) -> None:
    """End a process; nothing happens where it is gone or somebody else's."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def signal_name(number: int) -> str:
    """For example ``SIGSEGV``; the number for signals that the platform has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def bundle() -> str:
    """The bundle that this process runs from, compiled or not; the folder of the package where it runs from source."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(edgeopt_runner.__file__)))
    return os.path.join(os.path.dirname(home), _BUNDLE) if os.path.isfile(home) else home


def program(interpreter: str) -> List[str]:
    """The command that starts this runner again under `interpreter`: the bundle, or the source tree it runs from."""
    home = bundle()
    if os.path.isfile(home):
        return [interpreter, "-I", home]
    code = "import sys; sys.path.insert(0, %r); from edgeopt_runner.__main__ import main; sys.exit(main(sys.argv[1:]))"
    return [interpreter, "-I", "-c", code % home]


def settle_as_worker(parent: int) -> None:
    """Be the first that the kernel sacrifices when memory runs out, and end with the supervisor.

    Args:
        parent: The supervisor's pid.
    """
    try:
        with open("/proc/self/oom_score_adj", "w") as stream:
            stream.write(_OOM_SCORE)
    except OSError:
        pass  # a hardened container; the guard still watches
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (ImportError, OSError, AttributeError):
        pass
    if os.getppid() != parent:
        os._exit(1)
