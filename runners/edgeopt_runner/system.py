"""What system the board runs: distribution, C library, whether its kernel has 64 bits where the interpreter has 32."""

import os
import re
from typing import Dict, Optional

from edgeopt_runner.board import THIS, Board, integer

_KERNELS_64 = ("aarch64", "arm64", "armv8l", "x86_64", "amd64", "riscv64", "ppc64le", "s390x", "loongarch64")
"""Names of `uname`; ``armv8l`` is what a 64-bit ARM kernel tells a process that asked for a 32-bit personality."""

_MUSL = re.compile(r"musl libc.*?Version ([0-9][\w.]{0,20})", re.DOTALL)


def parse_os_release(text: Optional[str]) -> Dict[str, str]:
    """The fields of `/etc/os-release`, without quotes."""
    found = {}
    for line in (text or "").splitlines():
        key, _, value = line.partition("=")
        if value and not key.startswith("#"):
            found[key.strip()] = value.strip().strip("\"'")
    return found


def kernel_bits(machine: str) -> Optional[int]:
    """Bits of the kernel, by what `uname` calls the machine; ``None`` for an empty name."""
    return None if not machine else 64 if machine in _KERNELS_64 else 32


def page_bytes() -> Optional[int]:
    """Size of a memory page; 4096 for most kernels, 16384 for a Raspberry Pi 5's, 65536 for some servers'."""
    try:
        return os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def swap_bytes(board: Board = THIS) -> Optional[int]:
    """Size of all swap, compressed memory included."""
    sizes = [line.split()[2:3] for line in (board.read("/proc/swaps") or "").splitlines()[1:]]
    if board.read("/proc/swaps") is None:
        return None
    return 1024 * sum(integer(size[0]) or 0 for size in sizes if size)


def parse_musl(text: Optional[str]) -> str:
    """``musl 1.2.4`` of what musl's loader says when it is run by itself; empty for anything else."""
    found = _MUSL.search(text or "")
    return "musl " + found.group(1) if found else ""


def libc(board: Board = THIS) -> str:
    """For example ``glibc 2.36`` or ``musl 1.2.4``; empty where neither can be told."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
        if version and version.startswith("glibc"):
            return version
    except (AttributeError, ValueError, OSError):
        pass
    loaders = board.glob("/lib/ld-musl-*")
    return parse_musl(board.command([loaders[0]], whatever=True)) or "musl" if loaders else ""
