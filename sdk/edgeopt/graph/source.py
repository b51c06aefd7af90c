"""Models in: an ONNX file, a torch network named by its function, or a `.pt2` file becomes a checked ONNX file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import run_child
from edgeopt.core.model import Artifact, Model
from edgeopt.errors import ModelError
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.user_call import call_of
from edgeopt.graph.user_code import check_function, is_function

if TYPE_CHECKING:
    import numpy as np

_LONGEST_NAME = 60
"""Of a function with arguments: names of applications have 64 characters at most."""

_TORCH = "Give the Python function that builds the network and loads these weights, as in nets.py:build."
_OTHER_FORMATS = {
    ".pb": "Convert it with tf2onnx: python -m tf2onnx.convert --graphdef FILE --output model.onnx.",
    ".h5": "Convert it with tf2onnx: python -m tf2onnx.convert --keras FILE --output model.onnx.",
    ".keras": "Convert it with tf2onnx: python -m tf2onnx.convert --keras FILE --output model.onnx.",
    ".tflite": "Convert it with tf2onnx: python -m tf2onnx.convert --tflite FILE --output model.onnx.",
    ".pth": _TORCH,
    ".pt": _TORCH,
    ".ckpt": _TORCH,
    ".bin": _TORCH,
    ".safetensors": _TORCH,
    ".engine": "An engine runs only where it was built; give the network that it was built from.",
    ".ort": "An .ort file cannot be changed; give the ONNX file that it was made from.",
}


@dataclass(frozen=True)
class LoadedModel:
    """A model taken in.

    Attributes:
        model: What it is.
        path: Its ONNX file, weights inside.
    """

    model: Model
    path: Path


def load_model(
    source: str,
    *,
    folder: Path,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    example: Mapping[str, np.ndarray[Any, Any]] | None = None,
    deadline_seconds: float = 600,
) -> LoadedModel:
    """Take a network in.

    Args:
        source: ``model.onnx``, ``file.py:function``, ``package.module:function`` or ``program.pt2``; a function
            may have literal arguments, as in ``nets.py:build(width=16)``. It returns an `nn.Module`, or the module
            and its example inputs (a tensor, a tuple, or a dict by name).
        folder: Where the ONNX file is made; exists.
        input_shapes: Sizes for dynamic dimensions, and example inputs for a function that returns none. A dynamic batch
            stays dynamic where 1 is asked.
        example: One feed by input name, taken from the data, for a function that returns no example inputs.
        deadline_seconds: For the export and for the check, each.

    Raises:
        ModelError: The source cannot be found, read, exported or loaded; says which and what to do.
        ChildError: The export or the check crashed or ran past the deadline.
    """
    shapes = {name: list(sizes) for name, sizes in (input_shapes or {}).items()}
    path = _destination(source, folder)
    exported = None
    if is_function(source) or source.endswith(".pt2"):
        exported = _export(source, folder, shapes, example, deadline_seconds)
    else:
        _check_file(Path(source))
    notes = run_child(
        "edgeopt.graph.onnx_file:prepare_onnx",
        {
            "source": exported["path"] if exported else source,
            "destination": str(path),
            "input_shapes": {} if exported else shapes,
        },
        deadline_seconds=deadline_seconds,
        what=f"checking {source} in onnxruntime",
    )
    inspection = inspect_onnx(path)
    model = Model(
        name=_name_of(source),
        artifact=_artifact(path),
        signature=inspection.signature,
        opset=inspection.opset,
        ir_version=inspection.ir_version,
        source=source,
        exporter=exported["exporter"] if exported else "none",
        notes=(*(exported["notes"] if exported else ()), *notes),
    )
    return LoadedModel(model, path)


def export_trainable(
    source: str,
    destination: Path,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    deadline_seconds: float = 600,
) -> None:
    """Write a torch network as ONNX with nothing folded, so that it can be trained: batch normalisation stays.

    Args:
        source: ``file.py:function``, ``package.module:function`` or ``program.pt2``.
        destination: The file to make.
        input_shapes: As for `load_model`.
        deadline_seconds: For the export.

    Raises:
        ModelError: The network cannot be exported so.
        ChildError: The export crashed or ran past the deadline.
    """
    partial = destination.with_suffix(f".{os.getpid()}.part.onnx")
    run_child(
        "edgeopt.graph.torch_trainable:export_trainable",
        {
            "source": source,
            "destination": str(partial),
            "input_shapes": {name: list(sizes) for name, sizes in (input_shapes or {}).items()},
            "example": None,
        },
        deadline_seconds=deadline_seconds,
        what=f"exporting {source} for training",
    )
    partial.replace(destination)


def _destination(source: str, folder: Path) -> Path:
    """Where the checked file goes: never over the user's own."""
    path = folder / f"{_name_of(source)}.onnx"
    return path.with_suffix(".checked.onnx") if path.resolve() == Path(source).resolve() else path


def _name_of(source: str) -> str:
    """A short name for files and tables: the file's stem, or the function's name behind its module's and arguments."""
    call = call_of(source)
    text = f"{Path(call.place).stem}-{call.name}{call.arguments}" if call else Path(source).stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "model"
    if not call or len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(call.arguments.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{digest}"


def _check_file(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in _OTHER_FORMATS:
        raise ModelError(f"{path} is a {suffix} file, which is not a source of models.", remedy=_OTHER_FORMATS[suffix])
    if suffix != ".onnx":
        raise ModelError(
            f"{path} is no kind of model that is known here ({suffix or 'no suffix'}).",
            remedy="Give an .onnx file, a .pt2 file, or a Python function, as in nets.py:build.",
        )
    _check_exists(path)


def _check_exists(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path} is a folder.", remedy="Give the model file inside it.")
    if not path.is_file():
        beside = (
            sorted(other.name for other in path.parent.glob(f"*{path.suffix}") if other.is_file())[:5]
            if path.parent.is_dir()
            else []
        )
        remedy = f"There are: {', '.join(beside)}." if beside else "Check the path."
        raise ModelError(f"there is no file {path}.", remedy=remedy)


def _export(
    source: str,
    folder: Path,
    shapes: Mapping[str, list[int]],
    example: Mapping[str, Any] | None,
    deadline_seconds: float,
) -> dict[str, Any]:
    """Export in a child; its answer has ``path``, ``exporter`` and ``notes``."""
    if is_function(source):
        check_function(source, ModelError)
    else:
        _check_exists(Path(source))
    destination, example_path = folder / f"{_name_of(source)}.exported.onnx", folder / "example.npz"
    if example:
        import numpy as np

        np.savez(example_path, allow_pickle=False, **dict(example))
    answer = run_child(
        "edgeopt.graph.export:export_source",
        {
            "source": source,
            "destination": str(destination),
            "input_shapes": dict(shapes),
            "example": str(example_path) if example else None,
        },
        deadline_seconds=deadline_seconds,
        what=f"exporting {source}",
    )
    return {"path": str(destination), **answer}


def _artifact(path: Path) -> Artifact:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return Artifact(digest.hexdigest(), path.stat().st_size, "onnx")
