"""The interpreter with runtimes that the host fills for a board: a virtual environment without pip or internet.

`env/<key>/` is made in a temporary folder and renamed (only `bin/python`, a link, and `pyvenv.cfg` matter to the
interpreter, and both survive that), then `env/current` is switched. Nothing outside the root is touched, PEP 668 least.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

from edgeopt_runner import faults, links, processes, protocol, storage, wheel_file
from edgeopt_runner.engines.onnxruntime import SILENCE
from edgeopt_runner.refusals import Refusal, refusal_of

IMPORT_SECONDS = 180
MARK = ".edgeopt"
"""A file in every environment that was made here, by which it is known when all of ours is taken away."""

RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime_gpu": "onnxruntime",
    "tflite_runtime": "tflite_runtime",
    "ai_edge_litert": "ai_edge_litert",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "mnn": "MNN",
    "executorch": "executorch.runtime",
}
"""Module to import by the name of its wheel."""

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_WHEEL = re.compile(r"[A-Za-z0-9_.+!-]{1,200}\.whl\Z")
_SPARE_BYTES = 16 << 20
_VERSION = (
    "import importlib, os, sys; sys.modules['openvino_telemetry'] = None; m = importlib.import_module(sys.argv[1]); "
    "n = importlib.import_module('executorch.version') if sys.argv[1] == 'executorch.runtime' else m; "
    "print(getattr(n, '__version__', None) or getattr(n, 'version', str)(), flush=True); os._exit(0)"
)
"""Prints a module's version last, before what a library's own buffers hold (MNN greets on import); OpenVINO must not
report that it was imported (`engines.openvino`)."""


def install(root: str, job: Dict[str, Any]) -> Dict[str, Any]:
    """Make the environment that `job` describes and make it the current one; the same key again is only checked.

    Args:
        root: The runner's folder.
        job: A ``provision`` job: ``key``, ``wheels: [{name, sha256}]`` (objects that are there already), and
            ``system_site_packages``.

    Returns:
        ``status``, ``detail`` and ``environment: {key, interpreter, runtimes: [{name, version}]}`` (``None`` when it
        failed; then `env/current` is as before).
    """
    try:
        environment = _install(root, job)
    except (Refusal, OSError) as error:
        refusal = refusal_of(error)
        detail = refusal.sentences
        return {"status": refusal.code, "detail": detail, "environment": None}
    return {"status": protocol.OK, "detail": "", "environment": environment}


def _install(root: str, job: Dict[str, Any]) -> Dict[str, Any]:
    key, wheels = _checked(job)
    folder = os.path.join(root, "env", key)
    modules = sorted({RUNTIMES[name] for name in map(_project, wheels) if name in RUNTIMES})
    runtimes = _known(folder, modules)
    if runtimes is None:
        runtimes = _build(root, folder, wheels, modules, bool(job.get("system_site_packages")))
    links.point(os.path.join(root, "env", "current"), key)
    return {"key": key, "interpreter": _python(folder), "runtimes": runtimes}


def _known(folder: str, modules: Sequence[str]) -> Optional[List[Dict[str, str]]]:
    """The runtimes of an environment that is there and works; `None` where it must be made.

    One that was made and works no more is not a rarity: an upgrade of the system's Python breaks it.
    """
    if not os.path.isdir(folder):
        return None
    try:
        return _imported(folder, modules)
    except Refusal:
        return None


def _checked(job: Dict[str, Any]) -> Tuple[str, Dict[str, str]]:
    """The key, and digests by file name."""
    key = job.get("key")
    if not isinstance(key, str) or not _KEY.match(key) or key == "current":
        raise Refusal(protocol.BAD_REQUEST, "%.80r is not an environment's key" % (key,))
    wheels = {}
    for wheel in job.get("wheels") or []:
        name = wheel.get("name")
        if not isinstance(name, str) or not _WHEEL.match(name):
            raise Refusal(protocol.BAD_REQUEST, "%.80r is not a wheel's file name" % (name,))
        wheels[name] = storage.check_digest(wheel.get("sha256"))
    return key, wheels


def _project(wheel: str) -> str:
    """The normalised project name in a wheel's file name."""
    return wheel.partition("-")[0].lower()


def _python(folder: str) -> str:
    return os.path.join(folder, "bin", "python")


def _build(
    root: str, folder: str, wheels: Dict[str, str], modules: Sequence[str], system: bool
) -> List[Dict[str, str]]:
    """Make the environment under its name, or not at all; returns its runtimes."""
    parent, key = os.path.split(folder)
    os.makedirs(parent, exist_ok=True)
    _sweep(parent)
    temporary = os.path.join(parent, ".tmp-%s-%d" % (key, os.getpid()))
    try:
        paths = _wheel_paths(root, wheels)
        _room_for(paths, parent)
        os.mkdir(temporary)
        open(os.path.join(temporary, MARK), "wb").close()
        _make_venv(temporary, system)
        for path in paths:
            wheel_file.unpack(path, _site_packages(temporary))
        runtimes = _imported(temporary, modules)
        os.sync()
        faults.point("environment.rename", match=key)
        if os.path.isdir(folder):
            os.rename(folder, os.path.join(parent, ".tmp-old-%s-%d" % (key, os.getpid())))
        os.rename(temporary, folder)
        storage.sync(parent)
    finally:
        _sweep(parent)
    faults.point("environment.switch", match=key)
    return runtimes


def _sweep(parent: str) -> None:
    """Take away what an interrupted or failed installation left."""
    for name in os.listdir(parent):
        if name.startswith(".tmp-"):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


def _wheel_paths(root: str, wheels: Dict[str, str]) -> List[str]:
    missing = [name for name, digest in wheels.items() if storage.missing_objects(root, [digest])]
    if missing:
        raise Refusal(protocol.MISSING_OBJECT, "not on this device: %s" % ", ".join(sorted(missing)), "Send it first.")
    return [storage.object_path(root, wheels[name]) for name in sorted(wheels)]


def _room_for(paths: Sequence[str], parent: str) -> None:
    need, have = sum(map(wheel_file.unpacked_bytes, paths)) + _SPARE_BYTES, storage.free_bytes(parent)
    if need > have:
        message = "the environment needs %.0f MiB, the device has %.0f MiB" % (need / 2.0**20, have / 2.0**20)
        raise Refusal(protocol.DISK_FULL, message, "Free some space or choose another root.")


def _make_venv(folder: str, system: bool) -> None:
    command = [sys.executable, "-I", "-m", "venv", "--without-pip"] + ["--system-site-packages"] * system + [folder]
    code, output = _run(command)
    if code == 0 and os.path.exists(_python(folder)):
        return
    message = "%s cannot make a virtual environment: %s" % (sys.executable, output)
    raise Refusal(protocol.ERROR, message, "Install its venv module (Debian: apt install python3-venv).")


def _site_packages(folder: str) -> str:
    return os.path.join(folder, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")


def _imported(folder: str, modules: Sequence[str]) -> List[Dict[str, str]]:
    """Import every module in its own process, where it may crash, and return their versions.

    Raises:
        Refusal: One crashed (`illegal_instruction`, `crash`) or cannot be imported (`runtime_missing`).
    """
    runtimes = []
    for module in modules:
        code, output = _run([_python(folder), "-I", "-c", _VERSION, module])
        if code:
            raise _import_failure(module, code, output)
        runtimes.append({"name": module, "version": output})
    return runtimes


def _import_failure(module: str, code: int, output: str) -> Refusal:
    if code > 0:
        return Refusal(protocol.RUNTIME_MISSING, "%s cannot be imported here: %s" % (module, output))
    status = protocol.ILLEGAL_INSTRUCTION if -code == signal.SIGILL else protocol.CRASH
    message = "importing %s ends with %s" % (module, processes.signal_name(-code))
    return Refusal(status, message, "Its wheel is not made for this processor.")


def _run(command: Sequence[str]) -> Tuple[int, str]:
    """Exit code and last line of what a child printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=IMPORT_SECONDS,
            env=dict(SILENCE, **os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    return done.returncode, lines[-1][:300] if lines else ""
