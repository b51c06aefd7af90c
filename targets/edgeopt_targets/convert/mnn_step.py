"""The part of `convert_mnn` that runs where MNN is installed: a child process, for it may crash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgeopt.errors import PassError

_OPTIONS: dict[str, tuple[str, ...]] = {
    "float": (),
    "half": ("--fp16",),
    "weights8": ("--weightQuantBits", "8"),
    "weights4": ("--weightQuantBits", "4"),
}
_RANDOM_NAME = re.compile(rb"\x24\0\0\0([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})\0")


def convert(source: str, destination: str, precision: str, note: str) -> None:
    """Convert a file.

    Args:
        source: ONNX file.
        destination: MNN file to make.
        precision: Of `onnx_to_mnn.Options`.
        note: Kept in the file, for the engine.

    Raises:
        PassError: MNN made no file, and says why; or the file is no smaller than the one in float.
    """
    made = _made(source, Path(destination), _OPTIONS[precision], note)
    if precision != "float" and len(made) >= len(_made(source, Path(f"{destination}.float"), (), note)):
        raise PassError("it changed nothing: the network has no weights that MNN stores in fewer bits.")
    Path(destination).write_bytes(_with_fixed_name(made))


def _made(source: str, destination: Path, options: Sequence[str], note: str) -> bytes:
    import _tools  # of the wheel MNN: what its command-line tool calls

    partial, log = destination.with_suffix(".part"), destination.with_suffix(".log")
    files = ("--modelFile", source, "--MNNModel", str(partial), "--bizCode", note)
    with open(log, "wb") as stream:
        os.dup2(stream.fileno(), 1)
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, *options])
    if not partial.exists():
        raise PassError(f"MNN's converter made no file: {_reason(log.read_text(errors='replace'))}.")
    return partial.read_bytes()


def _reason(said: str) -> str:
    """What it printed of an error; its exit status is always success."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [line for line in lines if "not support" in line.lower() or "error" in line.lower() or "failed" in line]
    return " ".join((failed or lines or ["it printed nothing"])[:2])[:300]


def _with_fixed_name(data: bytes) -> bytes:
    """Every file gets a random name inside; one drawn from the content makes the same bytes again."""
    found = _RANDOM_NAME.search(data)
    if not found:
        return data
    rest = data[: found.start(1)] + data[found.end(1) :]
    digest = hashlib.sha256(rest).hexdigest()
    name = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-{digest[16:20]}-{digest[20:32]}".encode()
    return data[: found.start(1)] + name + data[found.end(1) :]
