"""Where operators ran: as runtimes tell it, and what is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgeopt_runner import engines
from edgeopt_runner.engines._onnxruntime_placement import Again
from edgeopt_runner.engines._placement import count_delegated
from support.small_models import FILES, FOLDER


def load(name: str, **settings: object) -> engines.Session:
    engine = engines.engine(name)
    if engine.available() is None:
        pytest.skip(f"{name} is not installed here")
    return engine.load(str(FOLDER / FILES[name]), settings)


def test_litert_says_what_xnnpack_took():
    assert load("litert").placement() == {"xnnpack": 3}
    assert load("litert", provider="builtin").placement() == {"builtin": 3}


def test_onnx_runtime_counts_nodes_by_provider():
    assert load("onnxruntime").placement() == {"CPUExecutionProvider": 5}


def test_older_onnx_runtimes_are_asked_by_a_profiled_run():
    again = Again(str(FOLDER / "small.onnx"), ["CPUExecutionProvider"])
    found = again.placement({"x": ((1, 1, 8, 8), np.dtype(np.float32))})
    assert set(found) == {"CPUExecutionProvider"}
    assert 3 <= found["CPUExecutionProvider"] <= 8  # after fusions and layout changes
    assert again.placement({"x": ((1, 1), np.dtype(np.float32))}) == {}


def test_openvino_counts_kernels_by_kind_and_precision():
    found = load("openvino").placement()
    assert any("f32" in kernel for kernel in found)
    assert not any("bf16" in kernel for kernel in found)
    assert sum(found.values()) >= 3


def test_ncnn_counts_its_layers():
    assert load("ncnn").placement() == {"CPU": 3}


def test_operators_between_a_delegates_outputs_and_inputs_are_its_own():
    def operator(name: str, inputs: list[int], outputs: list[int]) -> dict:
        return {"op_name": name, "inputs": np.array(inputs, np.int32), "outputs": np.array(outputs, np.int32)}

    operators = [
        operator("CONV_2D", [0, 10, -1], [1]),
        operator("MEAN", [1, 11], [2]),
        operator("CUSTOM", [2], [3]),
        operator("FULLY_CONNECTED", [3, 12], [4]),
        operator("DELEGATE", [0, 10], [2]),
        operator("TfLiteXNNPackDelegate", [3, 12], [4]),
    ]
    assert count_delegated(operators, "xnnpack") == {"xnnpack": 3, "builtin": 1}
    assert count_delegated(operators[:4], "xnnpack") == {"builtin": 4}
