"""Models in: torch, Keras and TensorFlow networks become checked ONNX files; a TFLite file is taken as it is."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.child import Progress, run_child
from edgeopt.core.model import Artifact, Model
from edgeopt.core.tensor import Signature
from edgeopt.documents import decode
from edgeopt.errors import ModelError
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.source_kind import ONNX, TENSORFLOW, TFLITE, TORCH, check_file, kind_of, saved_model_of
from edgeopt.graph.tensorflow_source import export_tensorflow
from edgeopt.graph.user_call import call_of
from edgeopt.graph.user_code import check_function, is_function

if TYPE_CHECKING:
    import numpy as np

_LONGEST_NAME = 60
"""Of a function with arguments: names of applications have 64 characters at most."""


@dataclass(frozen=True)
class LoadedModel:
    """A model taken in.

    Attributes:
        model: What it is.
        path: Its ONNX file, weights inside; or its TFLite file.
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
    on_progress: Progress | None = None,
) -> LoadedModel:
    """Take a network in.

    Args:
        source: ``model.onnx``, ``file.py:function``, ``package.module:function``, ``program.pt2``, ``model.keras``, a
            folder with a SavedModel (``folder:signature``) or ``model.tflite``. A function may have literal arguments,
            as in ``nets.py:build(width=16)``. It returns an `nn.Module` or a `keras.Model`, or that and its example
            inputs (a tensor, a tuple, or a dict by name).
        folder: Where the ONNX file is made; exists.
        input_shapes: Sizes for dynamic dimensions, and example inputs for a function that returns none. A dynamic batch
            stays dynamic where 1 is asked.
        example: One feed by input name, taken from the data, for a function that returns no example inputs.
        deadline_seconds: For the export and for the check, each.
        on_progress: Hears how far the environment is that a converter needs.

    Raises:
        ModelError: The source cannot be found, read, exported or loaded; says which and what to do.
        ToolError: An environment that the export needs cannot be made.
        ChildError: The export or the check crashed or ran past the deadline.
    """
    shapes = {name: list(sizes) for name, sizes in (input_shapes or {}).items()}
    path, kind = _destination(source, folder), kind_of(source)
    if kind == TFLITE:
        return _tflite(source, path, shapes, deadline_seconds)
    exported = None
    if kind == TORCH:
        exported = _export(source, folder, shapes, example, deadline_seconds)
    elif kind == TENSORFLOW:
        raw = _exported_path(source, folder)
        exported = {"path": str(raw)} | export_tensorflow(
            source, raw, input_shapes=shapes, deadline_seconds=deadline_seconds, on_progress=on_progress
        )
    else:
        check_file(Path(source))
    notes = run_child(
        "edgeopt.graph.onnx_file:prepare_onnx",
        {
            "source": exported["path"] if exported else source,
            "destination": str(path),
            "input_shapes": {} if kind == TORCH else shapes,
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


def _tflite(source: str, path: Path, shapes: Mapping[str, list[int]], deadline_seconds: float) -> LoadedModel:
    """A TFLite file as it is, after the host's engine loaded it."""
    check_file(Path(source))
    if shapes:
        raise ModelError(
            f"--input {next(iter(shapes))} does not go with {source}: a TFLite file is taken as it is.",
            remedy="Leave --input out, or convert the network again with the sizes you need.",
        )
    shutil.copyfile(source, path)
    found = run_child(
        "edgeopt.graph.tflite_file:read_signature",
        {"path": str(path), "source": source},
        deadline_seconds=deadline_seconds,
        what=f"loading {source}",
    )
    signature = decode(Signature, found, where="signature")
    return LoadedModel(Model(_name_of(source), _artifact(path), signature, opset=0, ir_version=0, source=source), path)


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
    suffix = TFLITE if kind_of(source) == TFLITE else ONNX
    path = folder / f"{_name_of(source)}.{suffix}"
    return path.with_suffix(f".checked.{suffix}") if path.resolve() == Path(source).resolve() else path


def _exported_path(source: str, folder: Path) -> Path:
    return folder / f"{_name_of(source)}.exported.onnx"


def _name_of(source: str) -> str:
    """A short name for files and tables: the file's stem, or the function's name behind its module's and arguments."""
    saved = saved_model_of(source)
    call = None if saved else call_of(source)
    if saved:
        source = saved[0].name + (f"-{saved[1]}" if saved[1] else "")
    text = f"{Path(call.place).stem}-{call.name}{call.arguments}" if call else Path(source).stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "model"
    if not call or len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(call.arguments.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}-{digest}"


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
        check_file(Path(source))
    destination, example_path = _exported_path(source, folder), folder / "example.npz"
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
    return Artifact(digest.hexdigest(), path.stat().st_size, path.suffix[1:])
