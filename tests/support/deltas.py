"""Models for patches: ONNX files of given tensors, and what retraining does to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Tensors = Mapping[str, NDArray[np.generic]]


def onnx_file(path: Path, tensors: Tensors) -> Path:
    """An ONNX file with these initialisers."""
    first = next(iter(tensors))
    graph = helper.make_graph(
        [helper.make_node("Identity", [first], ["y"])],
        "network",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return path


def int8_weights(
    *, layers: int = 4, count: int = 50_000, noise: float = 0.0, seed: int = 1
) -> dict[str, NDArray[np.int8]]:
    """Layers of INT8 weights, moved by `noise` steps (one sigma) before they were rounded."""
    weights, moved = np.random.default_rng(0), np.random.default_rng(seed)
    found = {}
    for layer in range(layers):
        values = weights.normal(0, 25, count)
        values += moved.normal(0, noise, count) if noise else 0
        found[f"layer{layer}.weight"] = np.rint(np.clip(values, -127, 127)).astype(np.int8)
    return found


def sha256(path: Path) -> str:
    """Digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
