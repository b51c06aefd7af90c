"""Keras files, SavedModels and functions that return Keras networks become ONNX, where there is TensorFlow.

TensorFlow weighs two gigabytes: where it is not installed beside us, an environment of its own is made on first use.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.child import Progress, run_child
from edgeopt.environments import Environment, interpreter
from edgeopt.errors import ModelError
from edgeopt.graph.source_kind import check_file, saved_model_of
from edgeopt.graph.user_code import check_function, is_function

TOOLS = Environment(
    Path(__file__).with_name("tensorflow.txt"),
    needed=("tensorflow", "keras", "tf2onnx", "onnxruntime"),
    size_bytes=3 << 30,
)


def export_tensorflow(
    source: str,
    destination: Path,
    *,
    input_shapes: Mapping[str, list[int]],
    deadline_seconds: float,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``model.keras``, a SavedModel or what ``file.py:function`` returns as ONNX.

    Args:
        source: What the user typed; of a SavedModel with several signatures ``folder:signature``.
        destination: The file to make.
        input_shapes: Sizes of inputs that the network leaves open.
        deadline_seconds: For the export; making the environment has its own.
        on_progress: Hears how far the environment is.

    Returns:
        ``exporter`` with its version, and ``notes``.

    Raises:
        ModelError: It cannot be found, read or exported.
        ToolError: There is no TensorFlow, and no environment with it can be made.
        ChildError: The export crashed or ran past the deadline.
    """
    _check(source)
    saved = saved_model_of(source)
    answer: dict[str, Any] = run_child(
        "edgeopt.graph.tensorflow_export:export_source",
        {
            "source": str(saved[0]) if saved else source,
            "signature": saved[1] if saved else "",
            "destination": str(destination),
            "input_shapes": dict(input_shapes),
        },
        deadline_seconds=deadline_seconds,
        what=f"exporting {source}",
        python=_python(on_progress),
    )
    return answer


def _check(source: str) -> None:
    if saved_model_of(source):
        return
    if is_function(source):
        check_function(source, ModelError)
    else:
        check_file(Path(source))


def _python(on_progress: Progress | None) -> Path | None:
    """Another interpreter; ``None`` for this one: the user's own TensorFlow, of whatever version, goes before ours."""
    if all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx")):
        return None
    found = interpreter(TOOLS, on_progress=on_progress)
    return None if found == Path(sys.executable) else found
