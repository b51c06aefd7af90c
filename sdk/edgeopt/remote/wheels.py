"""Finds on the host the wheels that a board's interpreter can install, so that the board needs no internet and no pip.

pip does the resolving, in a child process with a deadline, told the board's tags instead of ours. It takes the newest
version that has a wheel there. One limit is pip's own: markers of dependencies are evaluated for the host's Python.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.device import DeviceFacts
from edgeopt.errors import ProvisionError, UsageError

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST = {"x86_64": 5, "i686": 5}
_ARM32 = ("armv7l", "armv6l", "armv8l")
_UNREACHABLE = ("Retrying (", "Temporary failure in name resolution", "NewConnectionError", "ProxyError")


@dataclass(frozen=True)
class Wheel:
    """One wheel on the host.

    Attributes:
        path: The file; its name is what a ``provision`` job calls it.
        name: Normalised project name, for example ``flatbuffers``.
        version: As the file name says it.
        digest: SHA-256, 64 hexadecimal digits.
    """

    path: Path
    name: str
    version: str
    digest: str


def wheels_for(
    facts: DeviceFacts,
    packages: Sequence[str],
    cache: Path,
    *,
    wheelhouse: Path | None = None,
    alone: Sequence[str] = (),
) -> tuple[Wheel, ...]:
    """`resolve_wheels` for a probed device; a 32-bit userland on a 64-bit kernel counts as 32-bit."""
    machine = "armv7l" if facts.machine in ("aarch64", "armv8l") and facts.bits == 32 else facts.machine
    board = (facts.python, facts.libc, machine)
    found = resolve_wheels(*board, packages, cache, wheelhouse=wheelhouse) if packages else ()
    more = resolve_wheels(*board, alone, cache, wheelhouse=wheelhouse, dependencies=False) if alone else ()
    return (*found, *more)


def resolve_wheels(
    python: str,
    libc: str,
    machine: str,
    packages: Sequence[str],
    cache: Path,
    *,
    wheelhouse: Path | None = None,
    dependencies: bool = True,
    deadline_seconds: float = 900.0,
) -> tuple[Wheel, ...]:
    """The newest wheels of `packages` and all they need that fit the board.

    Args:
        python: Version of the board's interpreter, for example ``3.11.2``.
        libc: For example ``glibc 2.36``.
        machine: ``uname -m`` of the board's userland.
        packages: Requirements, for example ``onnxruntime`` or ``numpy<2``.
        cache: Folder that the wheels are kept in; it can serve as a `wheelhouse` later.
        wheelhouse: Take wheels from this folder alone, without a package index.
        dependencies: Whether to take what the packages need too.
        deadline_seconds: After this the child is killed.

    Raises:
        ProvisionError: No wheel fits, the index cannot be reached, or the deadline passed.
        UsageError: A requirement is an option, or the wheelhouse is no folder.
    """
    if wheelhouse is not None and not wheelhouse.is_dir():
        raise UsageError(f"the wheelhouse {wheelhouse} is not a folder.", remedy="Name a folder of .whl files.")
    for package in packages:
        if not package or package.startswith("-"):
            raise UsageError(f"{package!r} is not a package.", remedy="Use a name such as onnxruntime or numpy<2.")
    tags = _tag_options(python, libc, machine)
    source = ["--no-index", "--find-links", str(wheelhouse)] if wheelhouse else []
    source += [] if dependencies else ["--no-deps"]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".resolving-", dir=cache) as folder:
        _download(
            [*tags, *source, "--dest", folder, *packages], f"Python {python}, {libc}, {machine}", deadline_seconds
        )
        return tuple(_keep(path, cache) for path in sorted(Path(folder).glob("*.whl")))


def platform_tags(libc: str, machine: str) -> tuple[str, ...]:
    """Platform tags of a board, best first (PEP 600: glibc's minor version downwards, with the older names).

    Raises:
        ProvisionError: Its libc is not glibc 2, or its machine has no name that a tag could bear.
    """
    match = re.fullmatch(r"glibc 2\.(\d{1,3})", libc.strip())
    if match is None:
        remedy = "Runtimes are built for glibc: use a Debian, Ubuntu or Raspberry Pi OS image on it."
        raise ProvisionError(
            f"the device has {libc or 'an unknown libc'}, and there are no wheels for that.", remedy=remedy
        )
    if not re.fullmatch(r"[a-z0-9_]{1,20}", machine):
        raise ProvisionError(f"the device calls its machine {machine[:40]!r}: there are no wheels for that.")
    tags: list[str] = []
    for minor in range(int(match.group(1)), _OLDEST.get(machine, 17) - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            tags.append(f"{_LEGACY[minor]}_{machine}")
    return (*tags, f"linux_{machine}")


def _tag_options(python: str, libc: str, machine: str) -> list[str]:
    match = re.match(r"3\.(\d{1,2})(\.|$)", python)
    if match is None:
        raise ProvisionError(
            f"the device's interpreter is Python {python[:40]!r}.", remedy="It needs Python 3.6 or later."
        )
    minor = int(match.group(1))
    abi = f"cp3{minor}" + ("m" if minor < 8 else "")
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", f"3.{minor}"]
    options += [word for name in (abi, "abi3", "none") for word in ("--abi", name)]
    return options + [word for tag in platform_tags(libc, machine) for word in ("--platform", tag)]


def _download(arguments: list[str], board: str, deadline_seconds: float) -> None:
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [sys.executable, "-m", "pip", "download", *quiet, *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"the wheels for {board} were not there after {deadline_seconds:g} s."
        raise ProvisionError(message, remedy="Try again, or bring them with --wheelhouse DIR.") from None
    if done.returncode:
        raise _failure(done.stdout + done.stderr, board)


def _failure(output: str, board: str) -> ProvisionError:
    """What pip's output means for the user."""
    if "No module named pip" in output:
        return ProvisionError(
            "this Python has no pip to find wheels with.", remedy=f"Run: {sys.executable} -m ensurepip"
        )
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if any(sign in output for sign in _UNREACHABLE):
        remedy = "Check the network and pip's settings, or bring the wheels with --wheelhouse DIR."
        return ProvisionError("the package index cannot be reached.", remedy=remedy)
    if missing:
        return ProvisionError(f"there is no wheel of {missing.group(1)} for {board}.", remedy=_instead(board))
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    last = (errors or output.strip().splitlines() or ["pip said nothing"])[-1]
    return ProvisionError(f"pip found no set of wheels for {board}: {last[:300]}.")


def _instead(board: str) -> str:
    """What such a board has, from the table of wheels that were tried."""
    if board.endswith(_ARM32):
        return (
            "A 32-bit ARM board has tflite-runtime (Python 3.9 to 3.11) and ncnn, no onnxruntime; "
            "for onnxruntime put a 64-bit image on it."
        )
    return "Name an older version, another interpreter on the device (python:), or bring wheels with --wheelhouse DIR."


def _keep(path: Path, cache: Path) -> Wheel:
    """Move a resolved wheel into the cache."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    kept = cache / path.name
    os.replace(path, kept)
    name, version = path.name.split("-")[:2]
    return Wheel(path=kept, name=re.sub(r"[-_.]+", "-", name).lower(), version=version, digest=digest.hexdigest())
