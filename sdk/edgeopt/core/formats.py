"""File formats of variants, and which runtimes read each."""

from __future__ import annotations

ONNX = "onnx"

READERS: dict[str, tuple[str, ...]] = {
    ONNX: ("onnxruntime", "openvino", "tensorrt"),
    "tflite": ("litert", "tflite_runtime", "openvino"),
    "ncnn": ("ncnn",),
    "mnn": ("mnn",),
    "pte": ("executorch",),
}
"""Engines by the format that they read, the one that the host checks results with first."""


def reads(runtime: str, format: str) -> bool:
    """Whether an engine reads files of a format. An engine that is not ours is taken to read ONNX."""
    known = {name for names in READERS.values() for name in names}
    return runtime in READERS.get(format, ()) or (format == ONNX and runtime not in known)
