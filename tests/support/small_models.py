"""The small network in every format (`tests/data/models`), its inputs and what it gives."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "data" / "models"

FILES = {
    "executorch": "small.pte",
    "litert": "small.tflite",
    "mnn": "small.mnn",
    "ncnn": "small.ncnn",
    "onnxruntime": "small.onnx",
    "openvino": "small.onnx",
    "tflite_runtime": "small.tflite",
}
"""A file for each engine."""


def images(count: int = 1) -> np.ndarray:
    """Inputs ``x`` [count, 1, 8, 8]."""
    return np.random.default_rng(11).normal(size=(count, 1, 8, 8)).astype(np.float32)


@functools.cache
def _session():
    import onnxruntime

    return onnxruntime.InferenceSession(str(FOLDER / "small.onnx"), providers=["CPUExecutionProvider"])


def expected(x: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs ``maps`` [n, 4, 8, 8] and ``logits`` [n, 5], from ONNX Runtime."""
    return dict(zip(("maps", "logits"), _session().run(None, {"x": x}), strict=True))
