"""Tells what a source of models is, by its name and a first look, before anything that takes time is started."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path

from edgeopt.errors import ModelError
from edgeopt.graph.user_call import call_of

TORCH, TENSORFLOW, TFLITE, ONNX = "torch", "tensorflow", "tflite", "onnx"
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")

_TENSORFLOW_PACKAGES = frozenset({"tensorflow", "keras", "tf_keras"})
_SAVED_MODEL = "saved_model.pb"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_MODEL = b"model_config"
_GIT_LFS = b"version https://git-lfs"

_FUNCTION = "Give the Python function that builds the network and loads these weights, as in nets.py:build."
_OTHER_FORMATS = {
    ".pb": "Give the folder of a SavedModel; of a frozen graph: python -m tf2onnx.convert --graphdef FILE.",
    ".pth": _FUNCTION,
    ".pt": _FUNCTION,
    ".ckpt": _FUNCTION,
    ".bin": _FUNCTION,
    ".safetensors": _FUNCTION,
    ".engine": "An engine runs only where it was built; give the network that it was built from.",
    ".ort": "An .ort file cannot be changed; give the ONNX file that it was made from.",
    ".pte": "Give the network that it was made from: a compiled program cannot be changed.",
    ".mnn": "Give the network that it was made from: its inputs' shapes are not in the file.",
    ".ncnn": "Give the network that it was made from: its inputs' shapes are not in the file.",
}


def kind_of(source: str) -> str:
    """What takes a source in: ``torch``, ``tensorflow``, ``tflite``, and ``onnx`` for whatever else."""
    if saved_model_of(source):
        return TENSORFLOW
    if call := call_of(source):
        return TENSORFLOW if _uses_tensorflow(Path(call.place).expanduser(), set()) else TORCH
    suffix = Path(source).suffix.lower()
    known = {".pt2": TORCH, ".tflite": TFLITE, **dict.fromkeys(KERAS_SUFFIXES, TENSORFLOW)}
    return known.get(suffix, ONNX)


def saved_model_of(source: str) -> tuple[Path, str] | None:
    """Folder and signature of a SavedModel, from ``folder`` or ``folder:signature``; the signature may be empty."""
    name, _, signature = source.rpartition(":")
    for place, chosen in ((source, ""), (name, signature)):
        if place and Path(place, _SAVED_MODEL).is_file():
            return Path(place), chosen
    return None


def _uses_tensorflow(path: Path, seen: set[Path]) -> bool:
    """Whether a Python file imports Keras or TensorFlow, and not torch; the files beside it that it imports count."""
    found = _imports(path, seen)
    return bool(found & _TENSORFLOW_PACKAGES) and "torch" not in found


def _imports(path: Path, seen: set[Path]) -> set[str]:
    if path in seen or path.suffix != ".py" or not path.is_file():
        return set()
    seen.add(path)
    try:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    except (SyntaxError, ValueError):  # told by `check_function`
        return set()
    found = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {(node.module or "").partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    return found.union(*(_imports(path.with_name(f"{name}.py"), seen) for name in found if name))


def demand_graph(source: str, doing: str) -> None:
    """Refuse a source whose graph cannot be worked on.

    Args:
        source: What the user typed.
        doing: For the message: ``"splitting"``.

    Raises:
        ModelError: It is a TFLite file.
    """
    if kind_of(source) == TFLITE:
        raise ModelError(
            f"{doing} works on ONNX, and {source} is a TFLite file, which is taken as it is.",
            remedy="Give the network that it was converted from.",
        )


def check_file(path: Path) -> None:
    """Refuse a file that is no model.

    Raises:
        ModelError: It is not there, is empty, is of a kind that is not taken, or not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix in _OTHER_FORMATS:
        raise ModelError(f"{path} is a {suffix} file, which is not a source of models.", remedy=_OTHER_FORMATS[suffix])
    if suffix not in (".onnx", ".pt2", ".tflite", *KERAS_SUFFIXES):
        if path.is_dir():
            raise ModelError(
                f"{path} is a folder without {_SAVED_MODEL}.", remedy="Give a SavedModel, or the model file inside it."
            )
        raise ModelError(
            f"{path} is no kind of model that is known here ({suffix or 'no suffix'}).",
            remedy="Give an .onnx, .pt2, .keras or .tflite file, a SavedModel, or a function, as in nets.py:build.",
        )
    _check_exists(path)
    if suffix in KERAS_SUFFIXES or suffix == ".tflite":
        _check_head(path, suffix)


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


def _check_head(path: Path, suffix: str) -> None:
    """Refuse by the first bytes what would otherwise wait for an environment of two gigabytes."""
    head = path.open("rb").read(64)
    if head.startswith(_GIT_LFS):
        raise ModelError(f"{path} is a Git LFS pointer, not the model.", remedy="Run: git lfs pull.")
    if not head:
        raise ModelError(f"{path} is empty (0 bytes).", remedy="Copy or export it again.")
    if suffix == ".tflite" and head[4:8] != b"TFL3":
        raise ModelError(f"{path} is not a TFLite file, or was cut short.", remedy="Convert or copy it again.")
    if suffix == ".keras" and not _is_keras(path):
        raise ModelError(
            f"{path} is not a Keras file, or was cut short.",
            remedy="Save it with model.save('model.keras'), of Keras 3 or TensorFlow 2.13 or later.",
        )
    if suffix in (".h5", ".hdf5"):
        _check_hdf5(path, head)


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _check_hdf5(path: Path, head: bytes) -> None:
    if not head.startswith(_HDF5):
        raise ModelError(f"{path} is not an HDF5 file, or was cut short.", remedy="Save or copy it again.")
    if _HDF5_MODEL not in path.read_bytes():
        raise ModelError(
            f"{path} holds weights alone, without the network.",
            remedy="Give a Python function that builds the network and calls load_weights, as in nets.py:build.",
        )
