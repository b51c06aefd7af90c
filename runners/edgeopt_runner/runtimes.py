"""Which inference runtimes the board's interpreters can load.

Each that is installed is imported in a child process, because an import may die of an illegal instruction; one more
child has seen before which are. What was found is kept beside the root's other files until a folder on the
interpreter's path changes: a child takes a second on a small board, and an import takes many.
"""

import io
import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Optional

from edgeopt_runner import engines, processes, storage
from edgeopt_runner.protocol import frames
from edgeopt_runner.refusals import Refusal

CACHE = "runtimes.json"
_IMPORT_SECONDS = 120
_SCRIPT = """
import os, sys
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # some runtimes print while they are imported
sys.path.insert(0, sys.argv[1])
from edgeopt_runner import engines
from edgeopt_runner.protocol import frames
found = engines.engine(sys.argv[2]).available()
paths = {p: os.stat(p).st_mtime for p in sys.path[1:] if os.path.exists(p)}
frames.write(out, {"found": found, "paths": paths})
"""
_LOOK = """
import importlib.util, json, os, sys
absent = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
paths = {p: os.stat(p).st_mtime for p in sys.path if os.path.exists(p)}
print(json.dumps({"absent": absent, "paths": paths}))
"""
"""Nothing is imported by it: `find_spec` of a package looks only whether its folder is there."""


def interpreters(root: str) -> List[str]:
    """Interpreters that may have runtimes: the environment that the host provisioned, then the one that runs us."""
    provisioned = storage.provisioned_python(root)
    found = [provisioned] if os.path.exists(provisioned) else []
    return found + [sys.executable]


def find(root: str, only: str = "") -> List[Dict[str, Any]]:
    """The fields of `edgeopt.core.device.RuntimeFacts`, one for each runtime, of the first interpreter that has it.

    Args:
        root: The runner's root.
        only: The one that is asked for; empty: all, which takes a small board a while the first time.
    """
    cache = storage.read_json(os.path.join(root, CACHE))
    asked: Dict[str, Any] = {}
    found: Dict[str, Dict[str, Any]] = {}
    for interpreter in interpreters(root):
        keys = {name: "%s %s" % (name, _identity(interpreter)) for name in ([only] if only else engines.names())}
        entries = {name: asked.get(key) or cache.get(key) for name, key in keys.items()}
        for name, entry in _answers(interpreter, [name for name in keys if not _fresh(entries[name])]).items():
            entries[name] = asked[keys[name]] = entry
        for name, entry in entries.items():
            if entry and entry["found"] is not None and name not in found:
                found[name] = dict(entry["found"], name=name, interpreter=interpreter)
    if any(asked.values()):
        _write_cache(root, cache, asked)
    return [found[name] for name in sorted(found)]


def _identity(interpreter: str) -> str:
    """The interpreter's path with its folders' links resolved, but not its own: that is what makes a venv."""
    folder, name = os.path.split(os.path.abspath(interpreter))
    return os.path.join(os.path.realpath(folder), name)


def _answers(interpreter: str, names: List[str]) -> Dict[str, Optional[Dict[str, Any]]]:
    """What an interpreter says of each engine (see `ask`); one whose packages it has not is not asked."""
    absent = _absent(interpreter, names) if len(names) > 1 else {}
    return {name: absent[name] if name in absent else ask(interpreter, name) for name in names}


def _absent(interpreter: str, names: List[str]) -> Dict[str, Optional[Dict[str, Any]]]:
    """The answers of engines whose packages an interpreter has not; none where that could not be seen."""
    packages = [package for name in names for package in engines.PACKAGES.get(name, ())]
    try:
        said = _said([interpreter, "-I", "-c", _LOOK] + packages).decode("utf-8").splitlines()
        look = json.loads(said[-1])  # an interpreter may greet
        missing, nothing = set(look["absent"]), {"found": None, "paths": dict(look["paths"])}
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return {}
    return {name: nothing for name in names if missing.issuperset(engines.PACKAGES.get(name) or ("",))}


def _said(command: List[str]) -> bytes:
    """What a child prints that ends well. Raises SubprocessError or OSError."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_IMPORT_SECONDS,
        check=True,
    ).stdout


def ask(interpreter: str, engine: str) -> Optional[Dict[str, Any]]:
    """What an interpreter says of an engine: ``found`` (or ``None``) and ``paths``; ``None`` where the child died."""
    command = [interpreter, "-I", "-c", _SCRIPT, processes.bundle(), engine]
    try:
        return frames.FrameReader(io.BytesIO(_said(command)).read).next()
    except (OSError, subprocess.SubprocessError, frames.FrameError):
        return None


def _fresh(entry: Any) -> bool:
    """Whether nothing was installed or removed since: folders change their time when a package comes or goes."""
    if not isinstance(entry, dict) or not isinstance(entry.get("paths"), dict):
        return False
    try:
        return all(os.stat(path).st_mtime == moment for path, moment in entry["paths"].items())
    except OSError:
        return False


def _write_cache(root: str, cache: Dict[str, Any], asked: Dict[str, Any]) -> None:
    """Replace the cache; a board that cannot be written to asks again next time.

    Entries of interpreters that were not looked at stay: the worker's own is another than the server's.
    """
    kept = {key: entry for key, entry in dict(cache, **asked).items() if _fresh(entry)}
    try:
        storage.write_json(os.path.join(root, CACHE), kept, durable=False)
    except (OSError, Refusal):
        pass
