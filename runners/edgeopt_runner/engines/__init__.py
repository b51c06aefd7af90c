"""Engines by name: one module per inference runtime, imported only when it is asked for."""

import importlib
from typing import Dict, List, Tuple

from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session

MODULES: Dict[str, str] = {
    "executorch": "edgeopt_runner.engines.executorch",
    "litert": "edgeopt_runner.engines.litert",
    "mnn": "edgeopt_runner.engines.mnn",
    "ncnn": "edgeopt_runner.engines.ncnn",
    "onnxruntime": "edgeopt_runner.engines.onnxruntime",
    "openvino": "edgeopt_runner.engines.openvino",
    "tensorrt": "edgeopt_runner.engines.tensorrt",
    "tflite_runtime": "edgeopt_runner.engines.tflite_runtime",
}
PACKAGES: Dict[str, Tuple[str, ...]] = {
    "executorch": ("executorch",),
    "litert": ("ai_edge_litert",),
    "mnn": ("MNN",),
    "ncnn": ("ncnn",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tflite_runtime": ("tflite_runtime", "tensorflow"),
}
"""Packages by engine: where none of them is installed, the engine need not be asked."""


def names() -> List[str]:
    """Names of all engines, whether or not their runtime is installed."""
    return sorted(MODULES)


def engine(name: str) -> Engine:
    """The engine of that name.

    Args:
        name: A key of `MODULES`, for example ``onnxruntime``.

    Raises:
        EngineMissing: There is no such engine in this runner.
    """
    if name not in MODULES:
        raise EngineMissing("no engine %r in this runner; it has %s" % (name, ", ".join(names())))
    found: Engine = importlib.import_module(MODULES[name]).ENGINE
    return found


__all__ = ["Engine", "EngineMissing", "LoadFailed", "RunFailed", "Session", "engine", "names"]
