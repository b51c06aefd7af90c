"""What emulated boards are made of (root folders, kernels, emulators), made once a machine by scripts of `tests/kit`.

Another process that needs the same waits for it. A change of the script makes it anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

KIT = Path(__file__).parents[1] / "kit"
_CACHE = Path.home() / ".cache" / "edgeopt-tests" / "boards"
"""Of the user who runs the tests: they themselves move to a home of their own."""

_SLOWEST_SECONDS = 280


def need(*programs: str) -> None:
    """Skip the test, with the reason, where a program is missing."""
    missing = [program for program in programs if shutil.which(program, path=_PATH) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this computer; .ci/run names the packages")


def kit(script: str, *arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a script of the kit to its end; what it prints on stdout."""
    command = [str(KIT / script), *map(str, arguments)]
    variables = {**os.environ, "PATH": _PATH, **(environment or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=_SLOWEST_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def root_folder(architecture: str, *packages: str, suite: str = "bookworm") -> Path:
    """A Debian root folder, for example of ``armhf``; Debian's own scripts were not run in it."""
    need("apt-get", "dpkg-deb", "zstd")
    wanted = ["--suite", suite, "--packages", " ".join(("python3", "procps", *packages))]
    mirror = _mirror()
    if suite != "bookworm":
        wanted += ["--mirror", mirror]
    with _made("make_rootfs.sh", architecture, *wanted) as (folder, made):
        if not made:
            kit("make_rootfs.sh", architecture, folder, *wanted)
    return folder


def kernel(package: str) -> Path:
    """An arm64 kernel of Debian with its modules."""
    need("apt-get", "dpkg-deb")
    _mirror()
    with _made("get_kernel.sh", package) as (folder, made):
        if not made:
            kit("get_kernel.sh", "arm64", folder, package)
    return folder


def vm_files(package: str = "linux-image-6.12-arm64-16k") -> Path:
    """Kernel (16 KiB pages, like a Pi 5's), initramfs and disk of an arm64 Debian with Python and an SSH server."""
    need("mke2fs", "cpio", "depmod", "xz")
    with ThreadPoolExecutor() as pool:  # both wait for the network most of the time
        building = pool.submit(kernel, package)
        root = root_folder("arm64", "openssh-server", "mount", "iproute2", "kmod", "python3-venv")
    system = building.result()
    with _made("make_vm.sh", root.name, system.name) as (folder, made):
        if not made:
            kit("make_vm.sh", root, system, folder, "--journal")
    return folder


def persona(board: str) -> Path:
    """The files by which a machine looks like a board, for example ``pi5``."""
    stand_ins = [path.read_text() for path in sorted((KIT / "stand_ins").iterdir())]
    with _made("make_personas.py", *stand_ins) as (folder, made):
        if not made:
            kit("make_personas.py", folder)
    return folder / board


def emulator(architecture: str) -> Path:
    """A static user-mode emulator, ``aarch64`` or ``arm``, new enough to show the CPU that it emulates."""
    need("apt-get", "dpkg-deb")
    _mirror()
    with _made("get_qemu_user.sh") as (folder, made):
        if not made:
            kit("get_qemu_user.sh", folder)
    return folder / f"qemu-{architecture}"


@contextmanager
def _made(script: str, *wanted: str) -> Iterator[tuple[Path, bool]]:
    """The folder of what a script makes, locked, and whether it was finished before; half a thing is taken away."""
    digest = hashlib.sha256("\0".join((*wanted, (KIT / script).read_text())).encode()).hexdigest()[:12]
    _CACHE.mkdir(parents=True, exist_ok=True)
    folder = _CACHE / f"{Path(script).stem}-{digest}"
    finished = _CACHE / f"{folder.name}.finished"
    with open(_CACHE / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
        yield folder, finished.exists()
        finished.touch()


def _mirror() -> str:
    """Where this machine's own packages come from; skips the test where they are not Debian 12's."""
    lines: Sequence[str] = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    found = [line.split()[0] for line in lines if line.endswith(" bookworm")]
    if not found:
        pytest.skip("this computer's packages are not those of Debian 12")
    return found[0]


_PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
