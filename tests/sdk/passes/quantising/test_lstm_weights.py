"""Weights of LSTM in 8 bits: one scale, and no pair of products that saturates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgeopt.passes._base import PassContext
from edgeopt.passes.quantise_dynamic import Options, QuantiseDynamic
from edgeopt.passes.quantising.lstm_weights import quantise_lstm, without_saturation
from support.recurrent_graphs import FEATURES, FRAMES, recurrent_onnx

LARGEST_PAIR = 32767 // 255
HIDDEN = 32


def outputs(path: Path) -> np.ndarray:
    frames = np.random.default_rng(1).uniform(0, 1, (FRAMES, 1, FEATURES)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": frames})[0]


def tensor(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == name)


@pytest.mark.parametrize("seed", range(5))
def test_no_two_neighbours_saturate_a_sum_in_16_bits(seed: int):
    weights = np.random.default_rng(seed).standard_normal((2, 24, 17)).astype(np.float32)
    quantised, scales = without_saturation(weights)
    assert quantised.shape == (2, 17, 24)
    assert scales.shape == (2,)
    columns = quantised.astype(np.int32)
    for side in (np.maximum(columns, 0), np.maximum(-columns, 0)):
        assert (side[:, 1:] + side[:, :-1]).max() <= LARGEST_PAIR
    restored = quantised.transpose(0, 2, 1) * scales[:, None, None]
    assert np.abs(restored - weights).max() <= scales.max() / 2 * 1.0001


def test_it_is_finer_than_7_bits_where_neighbours_are_not_large_together():
    weights = np.random.default_rng(0).standard_normal((1, 64, 64)).astype(np.float32)
    _, (scale,) = without_saturation(weights)
    assert scale < 0.8 * np.abs(weights).max() / 63
    weights[:, :, 1::2] = 0
    _, (scale,) = without_saturation(weights)
    assert scale == pytest.approx(np.abs(weights).max() / 127)


def test_neighbours_that_are_largest_together_get_7_bits():
    quantised, (scale,) = without_saturation(np.full((1, 4, 6), -0.3, np.float32))
    assert set(quantised.ravel()) == {-64}
    assert scale == pytest.approx(0.6 / 127)


@pytest.mark.parametrize("weights", [np.zeros((1, 4, 3)), np.ones((1, 4, 1))])
def test_zeros_and_single_columns_are_fine(weights: np.ndarray):
    quantised, scales = without_saturation(weights.astype(np.float32))
    np.testing.assert_allclose(quantised.transpose(0, 2, 1) * scales[:, None, None], weights, rtol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
def test_the_quantised_layer_computes_what_the_float_one_does(directions: int, tmp_path: Path):
    """All weights are at their largest, where 8 bits would saturate without VNNI."""
    rows = 4 * HIDDEN
    signs = np.sign(np.random.default_rng(3).standard_normal((directions, rows, 1)))
    weights = (0.3 * signs * np.ones((1, 1, FEATURES))).astype(np.float32)
    source = recurrent_onnx(tmp_path / "n.onnx", hidden=HIDDEN, directions=directions, weights=weights)
    quantise_lstm(source, tmp_path / "q.onnx", exclude=(), saturates=True)
    model = onnx.load(tmp_path / "q.onnx")
    assert [node.op_type for node in model.graph.node] == ["DynamicQuantizeLSTM"]
    assert tensor(model, "W_scale").shape == (directions,)
    assert np.abs(tensor(model, "W_quantized").astype(int)).max() == 64
    np.testing.assert_allclose(outputs(tmp_path / "q.onnx"), outputs(source), atol=0.01)


def test_a_device_that_does_not_saturate_gets_all_8_bits(tmp_path: Path):
    source = recurrent_onnx(tmp_path / "n.onnx", weights=np.full((1, 32, FEATURES), 0.3, np.float32))
    for saturates, largest in ((False, 127), (True, 64)):
        quantise_lstm(source, tmp_path / "q.onnx", exclude=(), saturates=saturates)
        assert np.abs(tensor(onnx.load(tmp_path / "q.onnx"), "W_quantized").astype(int)).max() == largest


@pytest.mark.parametrize(("isa", "largest"), [(("avx2",), 64), (("avx2", "avx512_vnni"), 127)])
def test_the_pass_asks_the_devices_cpu(isa: tuple[str, ...], largest: int, tmp_path: Path):
    source = recurrent_onnx(tmp_path / "n.onnx", weights=np.full((1, 32, FEATURES), 0.3, np.float32))
    context = PassContext(tmp_path, machine="x86_64", isa=isa)
    QuantiseDynamic(Options()).apply(source, tmp_path / "q.onnx", context)
    model = onnx.load(tmp_path / "q.onnx")
    assert np.abs(tensor(model, "W_quantized").astype(int)).max() == largest
    cosine = np.corrcoef(outputs(tmp_path / "q.onnx").ravel(), outputs(source).ravel())[0, 1]
    assert cosine > (0.999 if largest == 64 else 0.9)


def test_a_layer_that_is_to_stay_float_does(tmp_path: Path):
    source = recurrent_onnx(tmp_path / "n.onnx")
    quantise_lstm(source, tmp_path / "q.onnx", exclude=("layer",), saturates=True)
    assert [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node] == ["LSTM"]
