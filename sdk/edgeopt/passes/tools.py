"""Versions of the libraries that a variant's bytes depend on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("edgeopt", "numpy", "onnx", "onnxruntime", "onnxslim", "tensorly", "torch", "torch-pruning")


def tool_versions() -> dict[str, str]:
    """Installed versions by name; a library that is not installed is left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
