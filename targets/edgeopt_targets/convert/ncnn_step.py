"""The part of `convert_ncnn` that runs where pnnx is installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from edgeopt.errors import PassError

_PARAM, _WEIGHTS = "model.param", "model.bin"


def convert(source: str, folder: str, shapes: str, half: bool) -> None:
    """Convert a file.

    Args:
        source: ONNX file.
        folder: Empty folder, where `model.param` and `model.bin` are made.
        shapes: Sizes and element types of the inputs, in pnnx's form.
        half: Whether weights are stored in 16 bits.

    Raises:
        PassError: pnnx made no files; it says why.
    """
    copy = shutil.copy(source, Path(folder, "network.onnx"))  # it writes many files beside its input
    command = [_program(), str(copy), f"inputshape={shapes}", f"fp16={int(half)}"]
    command += [f"ncnnparam={_PARAM}", f"ncnnbin={_WEIGHTS}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    missing = [name for name in (_PARAM, _WEIGHTS) if not Path(folder, name).exists()]
    if done.returncode or missing:
        raise PassError(f"pnnx ended with {done.returncode} ({_last_line(done.stderr + done.stdout)}).")
    _demand_known_layers(Path(folder, _PARAM).read_text(errors="replace"))


def _program() -> str:
    """The package itself imports torch, which its program does not need."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise PassError("pnnx is not installed in this environment.")
    return str(Path(spec.origin).with_name("pnnx"))


def _demand_known_layers(param: str) -> None:
    """What pnnx cannot express in ncnn's layers it writes under the names of torch or ONNX, with a dot."""
    kinds = {line.split()[0] for line in param.splitlines()[2:] if line.strip()}
    unknown = sorted(kind for kind in kinds if "." in kind or "::" in kind or kind.startswith("aten"))
    if unknown:
        raise PassError(f"ncnn has no layer for {', '.join(unknown)}.")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
