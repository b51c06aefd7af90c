"""Makes one model of several files: a chain of stages, or models that share a trunk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeopt.child import run_child
from edgeopt.documents import decode
from edgeopt.errors import UsageError
from edgeopt.graph import source
from edgeopt.graph.source_kind import demand_graph

_DEADLINE_SECONDS = 900.0


@dataclass(frozen=True)
class Merge:
    """A model that was made of several.

    Attributes:
        kind: ``chain`` or ``trunk``.
        shared_nodes, shared_bytes: Of a trunk: nodes, and bytes of weights, that are there once and not several times.
        nodes, weight_bytes, size_bytes: What the whole holds, and its file.
        source_bytes: Files that it was made of.
        inputs, outputs: Names of its tensors.
        max_abs: Largest difference of its outputs to those of the parts, on random inputs.
        notes: What the user should know.
    """

    kind: Literal["chain", "trunk"]
    shared_nodes: int
    shared_bytes: int
    nodes: int
    weight_bytes: int
    size_bytes: int
    source_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_abs: float
    notes: tuple[str, ...]


def merge_models(models: Sequence[str], destination: Path) -> Merge:
    """Make one file of several, after its outputs were found equal to those of the parts.

    Args:
        models: ``model.onnx`` or functions, as for every command; front to back where they are a chain.
        destination: The file to make.

    Raises:
        UsageError: Fewer than two models, or a destination that is a folder or one of them.
        ModelError: One cannot be read, or they have nothing in common and are no chain.
        ParityError: The whole does not give what the parts give.
    """
    if len(models) < 2:
        raise UsageError("one model alone cannot be merged.", remedy="Name two or more: edgeopt merge a.onnx b.onnx.")
    if destination.is_dir():
        raise UsageError(f"--out {str(destination)!r} is a folder.", remedy="Name a file: --out merged.onnx.")
    if any(destination.resolve() == Path(model).resolve() for model in models):
        raise UsageError(f"--out {str(destination)!r} is one of the models.", remedy="Name another file.")
    with tempfile.TemporaryDirectory(prefix="edgeopt-merge-") as folder:
        paths = [_loaded(model, Path(folder, str(number))) for number, model in enumerate(models)]
        found = run_child(
            "edgeopt.graph.stage_files:merge_files",
            {"models": [str(path) for path in paths], "names": _called(models), "destination": str(destination)},
            deadline_seconds=_DEADLINE_SECONDS,
            what=f"merging {', '.join(models)}",
        )
        total = sum(path.stat().st_size for path in paths)
    merge: Merge = decode(Merge, {**found, "source_bytes": total}, where="merge")
    return merge


def _loaded(model: str, folder: Path) -> Path:
    demand_graph(model, "merging")
    folder.mkdir()
    return source.load_model(model, folder=folder).path


def _called(models: Sequence[str]) -> list[str]:
    """Names of the models in messages, each another."""
    names = [
        Path(model.partition(":")[0]).stem + (f"_{model.partition(':')[2]}" if ":" in model else "") for model in models
    ]
    return [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names, 1)]
