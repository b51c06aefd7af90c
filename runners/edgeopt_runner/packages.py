"""Which interpreters the board has, and which runtimes are installed for them, from files alone.

Nothing is imported: an import takes seconds, and a wheel for another processor dies of it. What can really be loaded is
found by `runtimes`.
"""

import os
import platform
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from edgeopt_runner.board import THIS, Board

DISTRIBUTIONS = {
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "onnxruntime-openvino": "onnxruntime",
    "ai-edge-litert": "litert",
    "tflite-runtime": "tflite_runtime",
    "tensorrt": "tensorrt",
    "openvino": "openvino",
    "executorch": "executorch",
    "ncnn": "ncnn",
    "mnn": "mnn",
}
"""Runtimes by the names of their Python packages."""

_METADATA = re.compile(r"([A-Za-z0-9._-]{1,60}?)-([0-9][\w.!+]{0,40}?)(?:-py[0-9.]+)?\.(?:dist|egg)-info\Z")
_INTERPRETER = re.compile(r"python(3\.[0-9]{1,2})\Z")
_FOLDER_VERSION = re.compile(r"/python(3\.[0-9]{1,2})/")
_INTERPRETER_FOLDERS = ("/usr/bin", "/usr/local/bin")
_PACKAGE_FOLDERS = (
    "/usr/lib/python3*/*-packages",
    "/usr/local/lib/python3*/*-packages",
    "/opt/*/lib/python3*/site-packages",
)


def parse_metadata_name(name: str) -> Optional[Tuple[str, str]]:
    """Distribution (lower case, with hyphens) and version of ``onnxruntime_gpu-1.23.0.dist-info``."""
    found = _METADATA.match(name)
    return (found.group(1).lower().replace("_", "-"), found.group(2)) if found else None


def installed(root: str, board: Board = THIS) -> List[Dict[str, Any]]:
    """The fields of `edgeopt.core.device.PackageFacts`, by runtime, newest interpreter last.

    Args:
        root: The runner's folder, whose own environment counts too.
        board: Where the folders are looked for.
    """
    found = []
    for folder in _package_folders(root, board):
        version = _FOLDER_VERSION.search(folder)
        for name in board.names(folder):
            package, number = parse_metadata_name(name) or ("", "")
            if package in DISTRIBUTIONS:
                python = version.group(1) if version else ""
                facts = {"name": DISTRIBUTIONS[package], "version": number, "package": package, "python": python}
                if facts not in found:
                    found.append(facts)
    return sorted(found, key=lambda facts: (facts["name"], len(facts["python"]), facts["python"], facts["version"]))


def _package_folders(root: str, board: Board) -> List[str]:
    patterns = _PACKAGE_FOLDERS + (root + "/env/*/lib/python3*/site-packages",)
    folders = [folder for pattern in patterns for folder in board.glob(pattern)]
    if board is THIS:
        folders += board.glob(os.path.expanduser("~/.local/lib/python3*/site-packages")) + sys.path[1:]
    return folders


def interpreters(board: Board = THIS) -> List[Dict[str, str]]:
    """The fields of `edgeopt.core.device.PythonFacts`: ours first, with its whole version."""
    found = [{"path": sys.executable, "version": platform.python_version()}] if board is THIS else []
    known = {os.path.realpath(python["path"]) for python in found}
    for folder in _INTERPRETER_FOLDERS:
        for name in board.names(folder):
            version, path = _INTERPRETER.match(name), "%s/%s" % (folder, name)
            if version and os.path.realpath(path) not in known:
                known.add(os.path.realpath(path))
                found.append({"path": path, "version": version.group(1)})
    return found
