"""What a variant's bytes depend on beside its recipe and data: versions of libraries, and the code of the passes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from edgeopt.passes.registry import pass_modules

LIBRARIES = ("edgeopt", "numpy", "onnx", "onnxruntime", "onnxslim", "tensorly", "torch", "torch-pruning")

_BENEATH = frozenset({"edgeopt.graph", "edgeopt.training"})
"""What the passes stand on; the folders of the passes themselves are found by their entry points."""

_SOURCES = frozenset({".py", ".txt"})
"""Code, and the locked versions of the environments that converters run in."""


def tool_versions() -> dict[str, str]:
    """Installed versions by name; a library that is not installed is left out.

    The version of edgeopt ends in a digest of the code that makes variants, plug-ins included: after a change of a
    pass, nothing that the old one made is taken for the new one's.
    """
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"edgeopt": f"{found.get('edgeopt', '0')}+{code_digest(_packages())}"}


@cache  # 150 files: 20 ms
def code_digest(packages: frozenset[str]) -> str:
    """The first 12 characters of the SHA-256 of the sources of packages or modules, by their dotted names."""
    digest = hashlib.sha256()
    for package in sorted(packages):
        for name, path in _sources(package):
            digest.update(f"{package}/{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


@cache
def _packages() -> frozenset[str]:
    return _BENEATH | {module.rpartition(".")[0] or module for module in pass_modules()}


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    """Each source file of a package by its name in it; none of one that cannot be found: its passes do not load."""
    try:
        spec = find_spec(package)
    except ImportError:
        spec = None
    if spec is None:
        return
    for folder in map(Path, spec.submodule_search_locations or ()):
        for path in sorted(path for path in folder.rglob("*") if path.suffix in _SOURCES and path.is_file()):
            yield path.relative_to(folder).as_posix(), path
    if spec.submodule_search_locations is None and spec.origin:
        yield "", Path(spec.origin)
