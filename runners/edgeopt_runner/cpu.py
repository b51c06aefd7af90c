"""What kind of CPU the board has: name, instruction sets that matter to inference, cores that we may use."""

import os
from typing import List, Optional, Set

from edgeopt_runner.board import THIS, Board

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
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0xC0, 0xAC3): "Ampere-1",
}
"""(implementer, part) of ARM cores, from the kernel's `arch/arm64/include/asm/cputype.h`."""


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


def board_model(board: Board = THIS, cpuinfo_model: str = "") -> str:
    """Name of the board or machine: device tree, `/proc/cpuinfo`, DMI; empty where none tells a real one."""
    for path in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model"):
        text = board.read(path)
        if text:
            return text
    if cpuinfo_model:
        return cpuinfo_model
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
