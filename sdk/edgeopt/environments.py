"""Interpreters with packages of their own, for tools whose pins clash with ours or that weigh too much to ask for.

Each is made on first use, with exactly the packages of a lock file, and kept for all projects of a user. Not `pip
install` into the user's own environment: it would move versions under a network that is being worked on.

    EDGEOPT_ENVIRONMENTS   folder for them; `environments` in edgeopt's home else. May be deleted at any time.
    EDGEOPT_WHEELHOUSE     folder of wheels: pip takes them alone and asks no index. pip's own configuration holds else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeopt.child import Progress, die_with_parent, report_progress, run_child
from edgeopt.errors import ChildError, ToolError
from edgeopt.home import home

_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")
_MIB = 1 << 20


@dataclass(frozen=True)
class Environment:
    """A set of packages that a tool needs.

    Attributes:
        lock: Requirements file that pins every package; its stem is the environment's name.
        needed: Packages that are used themselves. Where this interpreter has all of them as locked, it is taken.
        first: Package that pip installs alone before the rest, with what it requires: torch, whose build (CPU or CUDA)
            the user's pip configuration decides.
        size_bytes: Free space that making it takes.
    """

    lock: Path
    needed: tuple[str, ...]
    first: str = ""
    size_bytes: int = 500 * _MIB

    @property
    def name(self) -> str:
        """For messages and the folder: ``litert``."""
        return self.lock.stem

    @property
    def folder(self) -> Path:
        """Where it is once it is made: another lock, Python or machine is another environment."""
        place = os.environ.get("EDGEOPT_ENVIRONMENTS")
        parent = Path(place).expanduser().absolute() if place else home() / "environments"
        parts = [sys.implementation.cache_tag, platform.machine(), sorted(self.pins().items())]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return parent / f"{self.name}-{digest[:12]}"

    def pins(self) -> dict[str, str]:
        """Versions by name, as the lock has them."""
        found = (_PINNED.match(line) for line in self.lock.read_text().splitlines())
        return {match[1].lower(): match[2] for match in found if match}


def interpreter(
    environment: Environment, *, deadline_seconds: float = 3600.0, on_progress: Progress | None = None
) -> Path:
    """The Python that has an environment's packages: this one where it does, else the environment's, made if need be.

    Two processes that want the same one make it once; a making that is killed leaves nothing that looks whole.

    Args:
        environment: What is needed.
        deadline_seconds: For making it; the making is ended then.
        on_progress: Hears which package is being installed.

    Raises:
        ToolError: It cannot be made: no network, no room, no `venv` module, no wheel, too slow.
    """
    if _is_here(environment):
        return Path(sys.executable)
    python = environment.folder / "bin" / "python"
    if python.exists():
        return python
    with _one_maker(environment.folder):
        if not python.exists():
            _demand_room(environment)
            _make_in_child(environment, deadline_seconds, on_progress)
    return python


def is_ready(environment: Environment) -> bool:
    """Whether `interpreter` gives it without making anything."""
    return _is_here(environment) or (environment.folder / "bin" / "python").exists()


def _is_here(environment: Environment) -> bool:
    pins = environment.pins()
    try:
        return all(_public(metadata.version(name)) == _public(pins[name.lower()]) for name in environment.needed)
    except metadata.PackageNotFoundError:
        return False


def _public(version: str) -> str:
    """Without the local part: ``2.13.0+cpu`` and ``2.13.0`` are one version in different builds."""
    return version.partition("+")[0]


@contextlib.contextmanager
def _one_maker(folder: Path) -> Iterator[None]:
    """Hold the environment's lock; the kernel drops it with the process. What a killed maker left is removed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(f".{folder.name}.lock"), "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            for left in folder.parent.glob(f"{folder.name}.*.part"):
                shutil.rmtree(left, ignore_errors=True)
            yield
    except OSError as error:
        raise ToolError(
            f"environments cannot be kept in {folder.parent}: {error.strerror or error}.",
            remedy="Name another folder in EDGEOPT_ENVIRONMENTS.",
        ) from None


def _demand_room(environment: Environment) -> None:
    folder = environment.folder.parent
    free = shutil.disk_usage(folder).free
    if free < environment.size_bytes:
        raise ToolError(
            f"the environment {environment.name!r} needs {environment.size_bytes // _MIB} MiB, "
            f"but {folder} has {free // _MIB} MiB left.",
            remedy="Free some room, or name a folder on another disk in EDGEOPT_ENVIRONMENTS.",
        )


def _make_in_child(environment: Environment, deadline_seconds: float, on_progress: Progress | None) -> None:
    fields = {**asdict(environment), "lock": str(environment.lock)}
    try:
        run_child(
            "edgeopt.environments:make",
            {"fields": fields, "wheelhouse": os.environ.get("EDGEOPT_WHEELHOUSE", "")},
            deadline_seconds=deadline_seconds,
            what=f"making the environment {environment.name!r}",
            on_progress=on_progress,
        )
    except ChildError as error:
        slow = error.status == "timeout"
        raise ToolError(
            error.message, remedy="Try again on a faster network, or offline: " + _offline(environment) if slow else ""
        ) from None


def make(fields: dict[str, Any], wheelhouse: str) -> None:
    """Make an environment beside its place and move it there; the child's part of `interpreter`.

    Args:
        fields: Of `Environment`.
        wheelhouse: Folder of wheels, or empty.

    Raises:
        ToolError: `venv` or pip failed.
    """
    environment = Environment(Path(fields["lock"]), tuple(fields["needed"]), fields["first"], fields["size_bytes"])
    if wheelhouse and not Path(wheelhouse).is_dir():
        raise ToolError(f"EDGEOPT_WHEELHOUSE is {wheelhouse!r}, which is no folder.", remedy=_offline(environment))
    folder = environment.folder
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        _make_venv(partial)
        _install(environment, partial, ("--no-index", "--find-links", wheelhouse) if wheelhouse else ())
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_venv(folder: Path) -> None:
    report_progress("making an environment", 0.0)
    # without "-I" a folder of packages that the child was given would reach pip
    done = subprocess.run(
        [sys.executable, "-I", "-m", "venv", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = _end_of((done.stdout + done.stderr).splitlines())
        raise ToolError(
            f"{sys.executable} -m venv failed: {said}.",
            remedy="Install Python's venv module (Debian, Ubuntu: apt install python3-venv).",
        )


def _install(environment: Environment, folder: Path, options: Sequence[str]) -> None:
    """What is to come first with what it requires, then everything else as it stands in the lock."""
    lock = str(environment.lock)
    steps = [("--no-deps", "-r", lock)]
    if environment.first:
        wanted = f"{environment.first}=={_public(environment.pins()[environment.first])}"
        steps.insert(0, ("-c", lock, wanted))
    count = 0
    for step in steps:
        count = _pip(environment, [str(folder / "bin" / "python"), "-I", *_PIP, *options, *step], count)


def _pip(environment: Environment, command: Sequence[str], count: int) -> int:
    """Run pip and tell which package it is at; the number of packages so far."""
    total, lines = len(environment.pins()), []
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    process = subprocess.Popen(command, preexec_fn=die_with_parent, **pipes)
    for line in process.stdout or ():
        lines.append(line.strip())
        if line.startswith("Collecting "):
            count = min(count + 1, total)
            report_progress(f"environment {environment.name}: {line.split()[1]}", count / (total + 1))
    if process.wait():
        raise _problem(environment, lines)
    return count


def _problem(environment: Environment, lines: Sequence[str]) -> ToolError:
    """What pip's last words mean to a user."""
    said, what = _end_of(lines), f"the environment {environment.name!r} cannot be made"
    everything = "\n".join(lines)
    if "No space left on device" in everything:
        return ToolError(f"{what}: the disk is full.", remedy="Free some room, or set EDGEOPT_ENVIRONMENTS and TMPDIR.")
    if any(word in everything for word in ("NewConnectionError", "NameResolutionError", "timed out", "ProxyError")):
        return ToolError(f"{what}: the package index cannot be reached ({said}).", remedy=_offline(environment))
    return ToolError(f"{what}: {said}.", remedy=_offline(environment))


def _offline(environment: Environment) -> str:
    return (
        f"Where there is a network: pip download -r {environment.lock} -d wheels; "
        "then set EDGEOPT_WHEELHOUSE to that folder."
    )


def _end_of(lines: Sequence[str]) -> str:
    """The last error among lines, or the last line."""
    told = [line for line in lines if line.strip()]
    errors = [line for line in told if line.startswith("ERROR:")]
    return (errors or told or ["it printed nothing"])[-1].removeprefix("ERROR:").strip().rstrip(".")[:300]
