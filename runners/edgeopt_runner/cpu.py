"""What kind of CPU the board has: name, instruction sets that matter to inference, cores that we may use."""

import os
from typing import List, Optional, Set

from edgeopt_runner.board import THIS, Board, integer

ISA = frozenset(
    "sse4_1 sse4_2 ssse3 avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 avx512_fp16 "
    "avx_vnni avx_vnni_int8 avx_ne_convert amx_tile amx_int8 amx_bf16 amx_fp16 "
    "neon vfpv3 vfpv4 half fp asimd fphp asimdhp asimdrdm asimddp asimdfhm atomics "
    "i8mm bf16 sve sve2 svei8mm svebf16 sme".split()
)
"""Tokens of the ``flags`` (x86) or ``Features`` (ARM) line that change which kernels a runtime takes."""

_ARM_PARTS = {
    (0x41, 0xB76): "ARM1176",
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC08): "Cortex-A8",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0E): "Cortex-A17",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xC0D): "Cortex-A12",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0E): "Cortex-A76AE",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0x43, 0x0AF): "ThunderX2",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "TSV110",
    (0x51, 0x001): "Oryon",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1A",
}
"""(implementer, part) of ARM cores, from the kernel's `arch/arm64/include/asm/cputype.h`."""


_MOST_CPUS = 4096


class Cpu:
    """Name and instruction sets, sorted; a board's model where `/proc/cpuinfo` tells it."""

    def __init__(self, name: str, isa: List[str], board: str = "") -> None:
        self.name = name
        self.isa = isa
        self.board = board


def parse_cpuinfo(text: Optional[str]) -> Cpu:
    """From `/proc/cpuinfo` of an x86 or ARM kernel. On mixed cores only instruction sets that all have count."""
    flags: Optional[Set[str]] = None
    names: List[str] = []
    marketing: str = ""
    board: str = ""
    implementer = 0
    for line in (text or "").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("flags", "Features"):
            flags = set(value.split()) if flags is None else flags & set(value.split())
        elif key == "model name":
            marketing = marketing or value
        elif key == "Model":
            board = value
        elif key == "CPU implementer":
            implementer = _hexadecimal(value)
        elif key == "CPU part":
            name = _ARM_PARTS.get((implementer, _hexadecimal(value)), "ARM %#04x:%s" % (implementer, value))
            if name not in names:
                names.append(name)
    return Cpu(" + ".join(names) or " ".join(marketing.split()), sorted((flags or set()) & ISA), board)


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def allowed_cpus() -> List[int]:
    """Numbers of the logical CPUs that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return list(range(os.cpu_count() or 1))


def physical_cores(cpus: List[int], board: Board = THIS) -> int:
    """Physical cores among logical CPUs: siblings share a core. All of them where the board does not say."""
    cores: Set[str] = set()
    for number in cpus:
        folder = "/sys/devices/system/cpu/cpu%d/topology/" % number
        siblings = board.read(folder + "core_cpus_list") or board.read(folder + "thread_siblings_list")
        cores.add(siblings or "cpu%d" % number)
    return len(cores)


def parse_cpu_list(text: Optional[str]) -> List[int]:
    """Numbers of a kernel's list such as ``0-3,5``; what is no number or range, or absurdly long, is left out."""
    found: Set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        low, high = integer(first), integer(last or first)
        if low is not None and high is not None and 0 <= low <= high < _MOST_CPUS:
            found.update(range(low, high + 1))
    return sorted(found)


def fast_cores(cpus: List[int], board: Board = THIS) -> Optional[int]:
    """How many of these logical CPUs are of the fastest kind; ``None`` where all are alike or it is not said."""
    fast = set(parse_cpu_list(board.read("/sys/devices/cpu_core/cpus")))  # x86 with P- and E-cores
    if not fast:
        capacity = {number: board.number("/sys/devices/system/cpu/cpu%d/cpu_capacity" % number) for number in cpus}
        most = max((value for value in capacity.values() if value is not None), default=None)
        fast = {number for number, value in capacity.items() if value is not None and value == most}
    count = len(fast & set(cpus))
    return count if 0 < count < len(cpus) else None


def board_model(board: Board = THIS, cpuinfo_model: str = "") -> str:
    """Name of the board or machine: device tree, `/proc/cpuinfo`, DMI; empty where none tells a real one."""
    model = " ".join(board.tree("model")[:1]) or cpuinfo_model
    if model:
        return model
    words = [board.read("/sys/class/dmi/id/" + name) or "" for name in ("sys_vendor", "product_name")]
    return " ".join(word for word in words if word and word.lower() not in _PLACEHOLDERS)


_PLACEHOLDERS = (
    "to be filled by o.e.m.",
    "system manufacturer",
    "system product name",
    "default string",
    "o.e.m.",
    "not specified",
    "none",
)
