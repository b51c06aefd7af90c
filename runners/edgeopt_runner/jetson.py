"""What only NVIDIA's boards and cards tell: L4T and JetPack, power mode, GPU, events of over-current, CUDA's libraries.

Read from files; root is not needed. The vendor's own tools are asked only where there is no file.
"""

import re
from typing import Dict, List, Optional

from edgeopt_runner.board import THIS, Board, integer

_RELEASE = re.compile(r"^# R([0-9]{1,4})\b.*?REVISION: ([0-9]+(?:\.[0-9]+){0,3})", re.MULTILINE)
_PACKAGE_VERSION = re.compile(r"([0-9]+(?:\.[0-9]+){1,4})")
_STATUS = re.compile(r"pmode:([0-9]{1,4})")
_QUERY = re.compile(r"NV Power Mode: *([\w.+-]{1,40})(?:\s+([0-9]{1,4})\b)?")
_MODE = re.compile(r"< *POWER_MODEL +ID=([0-9]{1,4}) +NAME=([\w.+-]{1,40})")

_JETPACKS = {
    "32.3.1": "4.3", "32.4.3": "4.4", "32.4.4": "4.4.1", "32.5.0": "4.5", "32.5.1": "4.5.1", "32.5.2": "4.5.1",
    "32.6.1": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5",
    "32.7.6": "4.6.6", "34.1.1": "5.0.1", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2",
    "35.5.0": "5.1.3", "35.6.0": "5.1.4", "35.6.1": "5.1.5", "35.6.4": "5.1.6", "36.3.0": "6.0", "36.4.0": "6.1",
    "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2", "38.2.0": "7.0", "38.2.1": "7.0",
    "38.4.0": "7.1", "39.2.0": "7.2",
}  # fmt: skip
"""Releases of L4T that NVIDIA's archive lists; one that is not here is known by its first number."""

_JETPACK_MAJORS = {"28": "3", "32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
_GPUS = {"210": "Maxwell", "186": "Pascal", "194": "Volta", "234": "Ampere", "264": "Blackwell"}
_GPU_CLOCKS = re.compile(r"(57000000\.gpu|17000000\.(gp10b|gv11b|ga10b|gpu)|gpu-gpc-0)\Z")
_LIBRARY_FOLDERS = (
    "/usr/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib",
    "/usr/local/cuda/lib64",
)  # fmt: skip
_PACKAGES = ("nvidia-jetpack", "nvidia-l4t-core", "libnvinfer[0-9]*", "libcudnn[0-9]*", "cuda-cudart-[0-9]*")
_PACKAGE_OF = {"libnvinfer": "tensorrt", "libcudnn": "cudnn", "cuda-cudart-": "cuda"}


def parse_release(text: Optional[str]) -> str:
    """``36.4.3`` of the first line of `/etc/nv_tegra_release`; empty for anything else."""
    found = _RELEASE.search(text or "")
    return "%s.%s" % found.groups() if found else ""


def jetpack_of(l4t: str) -> str:
    """The JetPack of an L4T release: exact where the release is known, else its first number; empty where neither."""
    return _JETPACKS.get(l4t) or _JETPACK_MAJORS.get(l4t.partition(".")[0], "")


def parse_packages(text: Optional[str]) -> Dict[str, str]:
    """Upstream versions by package, from lines ``libnvinfer8<tab>8.2.1-1+cuda10.2``; those not installed left out."""
    found = {}
    for line in (text or "").splitlines():
        name, _, version = line.partition("\t")
        number = _PACKAGE_VERSION.match(version.strip())
        if name and number:
            found[name.strip()] = number.group(1)
    return found


def parse_power_mode(text: Optional[str]) -> str:
    """Of ``nvpmodel -q``: ``2 MODE_30W``, or the name alone where no number follows it; empty for anything else."""
    found = _QUERY.search(text or "")
    return " ".join(part for part in (found.group(2), found.group(1)) if part) if found else ""


def parse_mode_names(text: Optional[str]) -> Dict[int, str]:
    """Names by number of the power modes in `/etc/nvpmodel.conf`."""
    return {int(number): name for number, name in _MODE.findall(text or "")}


def is_nvidia(board: Board = THIS) -> bool:
    """Whether there is a Tegra or an NVIDIA driver."""
    return bool(tegra(board)) or board.exists("/etc/nv_tegra_release") or board.exists("/proc/driver/nvidia/version")


def tegra(board: Board = THIS) -> str:
    """The number of the Tegra, for example ``234`` of an Orin; empty on other boards."""
    names = [name.partition("nvidia,tegra")[2] for name in board.tree("compatible")]
    return next((name[:3] for name in names if name[:3].isdigit()), "")


def installed(board: Board = THIS) -> Dict[str, str]:
    """Versions of NVIDIA's packages, as Debian's list has them; none where that is absent."""
    if not is_nvidia(board):
        return {}
    command = ["dpkg-query", "--show", "--showformat=${Package}\\t${Version}\\n"]
    return parse_packages(board.command(command + list(_PACKAGES), whatever=True))  # fails where one is not installed


def release(packages: Dict[str, str], board: Board = THIS) -> str:
    """The L4T release, from its own file or, in a container, from a package."""
    return parse_release(board.read("/etc/nv_tegra_release")) or packages.get("nvidia-l4t-core", "")


def libraries(packages: Dict[str, str], board: Board = THIS) -> Dict[str, str]:
    """Versions of ``cuda``, ``cudnn`` and ``tensorrt``: from packages, else from the names of the files."""
    found = {}
    for package, version in sorted(packages.items()):
        for prefix, name in _PACKAGE_OF.items():
            if package.startswith(prefix) and package[len(prefix) :].replace("-", "").isdigit():
                found[name] = version
    for name, file in (("tensorrt", "libnvinfer.so"), ("cudnn", "libcudnn.so"), ("cuda", "libcudart.so")):
        if name not in found:
            paths = [path for folder in _LIBRARY_FOLDERS for path in board.glob("%s/%s.*" % (folder, file))]
            versions = [path.partition(file + ".")[2] for path in paths]
            exact = [version for version in versions if _PACKAGE_VERSION.match(version)]
            found.update({name: max(exact, key=len)} if exact else {})
    return found


def gpus(board: Board = THIS) -> List[str]:
    """Names of the GPUs: the Tegra's own, NVIDIA's cards, and others that the kernel can render with."""
    number = tegra(board)
    found = ["NVIDIA %s (tegra%s)" % (_GPUS[number], number)] if number in _GPUS else []
    for path in board.glob("/proc/driver/nvidia/gpus/*/information"):
        lines = (line.partition(":") for line in (board.read(path) or "").splitlines())
        found += [value.strip() for key, _, value in lines if key.strip() == "Model" and value.strip()]
    vendors = {"0x8086": "Intel GPU", "0x1002": "AMD GPU"}
    seen = [board.read(path) or "" for path in board.glob("/sys/class/drm/renderD*/device/vendor")]
    return found + [vendors[vendor] for vendor in seen if vendor in vendors]


def power_mode(board: Board = THIS) -> str:
    """``nvpmodel 2 MODE_15W``; empty on boards without power modes."""
    status = _STATUS.search(board.read("/var/lib/nvpmodel/status") or "")
    if status:
        number = int(status.group(1))
        name = parse_mode_names(board.read("/etc/nvpmodel.conf")).get(number, "")
        return " ".join(part for part in ("nvpmodel", str(number), name) if part)
    mode = parse_power_mode(board.command(["nvpmodel", "-q"])) if tegra(board) else ""
    return "nvpmodel " + mode if mode else ""


def gpu_khz(board: Board = THIS) -> Optional[Dict[str, int]]:
    """Kilohertz that the Tegra's GPU may have at least and at most, and has: ``min``, ``max``, ``current``."""
    for folder in board.glob("/sys/class/devfreq/*"):
        if _GPU_CLOCKS.search(folder):
            names = {"min": "min_freq", "max": "max_freq", "current": "cur_freq"}
            values = {key: board.number("%s/%s" % (folder, name)) for key, name in names.items()}
            return {key: value // 1000 for key, value in values.items() if value is not None} or None
    return None


def over_current_events(board: Board = THIS) -> Optional[int]:
    """How often the clocks were cut since boot because the supply was too weak (Orin and later)."""
    counts = [integer(board.read(path)) for path in board.glob("/sys/class/hwmon/hwmon*/oc*_event_cnt")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
