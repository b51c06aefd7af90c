from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeopt.errors import ModelError, ParityError
from edgeopt.graph.parity import compare, first_divergence
from edgeopt.graph.session import open_session, run_feed
from edgeopt_runner.protocol.samples import write_samples
from support.networks import (
    broken_nan_onnx,
    constant,
    constant_onnx,
    matmul_transformer_onnx,
    mlp_onnx,
    save,
    small_cnn_onnx,
)

RNG = np.random.default_rng(0)


def samples(path: Path, model: Path, name: str, shape: tuple[int, ...], count: int = 3) -> Path:
    """A sample file with the reference outputs of `model`."""
    inputs = RNG.standard_normal((count, *shape)).astype("f")
    session = open_session(model)
    outputs = [run_feed(session, {name: item}) for item in inputs]
    references = {f"reference:{key}": np.stack([output[key] for output in outputs]) for key in outputs[0]}
    write_samples(str(path), {f"input:{name}": inputs, **references})
    return path


def change_weight(source: Path, destination: Path, name: str, change: Any) -> Path:
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    onnx.save(model, destination)
    return destination


def test_a_model_agrees_with_itself_and_with_its_stored_outputs(tmp_path: Path) -> None:
    model = small_cnn_onnx(tmp_path / "m.onnx")
    data = samples(tmp_path / "s.npz", model, "image", (1, 1, 8, 8))
    for reference in (model, None):
        parity = compare(reference, model, data)
        assert (parity.max_abs, parity.sqnr_db, parity.finite, parity.constant) == (0.0, 200.0, True, False)
        assert parity.cosine == pytest.approx(1.0)


def test_a_small_change_shows_in_every_number(tmp_path: Path) -> None:
    model = mlp_onnx(tmp_path / "m.onnx")
    data = samples(tmp_path / "s.npz", model, "x", (1, 32))
    shifted = change_weight(model, tmp_path / "c.onnx", "b2", lambda bias: bias + np.float32(0.01))
    parity = compare(model, shifted, data)
    assert parity.max_abs == pytest.approx(0.01, rel=1e-3)
    assert 0.99 < parity.cosine < 1
    assert 20 < parity.sqnr_db < 60


def test_the_worst_sample_counts_and_a_limit_is_kept(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    same = save(tmp_path / "i.onnx", [node], {"x": ("N", 2)}, {"y": ("N", 2)})
    clip = [helper.make_node("Clip", ["x", "", "top"], ["y"])]
    clipped = save(tmp_path / "c.onnx", clip, {"x": ("N", 2)}, {"y": ("N", 2)}, [constant("top", 1.0)])
    inputs = np.array([[[0.5, 0.1]], [[3.0, 0.1]]], np.float32)
    write_samples(str(tmp_path / "s.npz"), {"input:x": inputs})
    assert compare(same, clipped, tmp_path / "s.npz").max_abs == pytest.approx(2.0)
    assert compare(same, clipped, tmp_path / "s.npz", limit=1).max_abs == 0


def test_nan_never_passes_for_agreement(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    same = save(tmp_path / "i.onnx", [node], {"x": ("N", 32)}, {"y": ("N", 32)})
    broken = broken_nan_onnx(tmp_path / "n.onnx")
    parity = compare(same, broken, samples(tmp_path / "s.npz", same, "x", (1, 32)))
    assert not parity.finite
    assert parity.cosine == 0
    assert math.isinf(parity.max_abs)


def test_a_constant_candidate_is_found_out(tmp_path: Path) -> None:
    model, flat = mlp_onnx(tmp_path / "m.onnx"), constant_onnx(tmp_path / "c.onnx")
    data = samples(tmp_path / "s.npz", model, "x", (1, 32))
    assert compare(model, flat, data).constant
    assert not compare(flat, flat, data).constant
    assert not compare(model, flat, data, limit=1).constant


def test_a_candidate_without_the_output_is_refused(tmp_path: Path) -> None:
    model = mlp_onnx(tmp_path / "m.onnx")
    data = samples(tmp_path / "s.npz", model, "x", (1, 32))
    node = helper.make_node("Identity", ["x"], ["z"])
    other = save(tmp_path / "o.onnx", [node], {"x": ("N", 32)}, {"z": ("N", 32)})
    with pytest.raises(ParityError, match=r"output y is missing; there is z"):
        compare(model, other, data)


def test_a_feed_that_does_not_fit_is_told_with_shapes(tmp_path: Path) -> None:
    model = mlp_onnx(tmp_path / "m.onnx")
    write_samples(str(tmp_path / "s.npz"), {"input:x": np.zeros((1, 1, 31), np.float32)})
    with pytest.raises(ModelError, match=r"failed on inputs x: float32\[1, 31\]"):
        compare(model, model, tmp_path / "s.npz")


def test_the_first_node_that_diverges_is_named(tmp_path: Path) -> None:
    model = matmul_transformer_onnx(tmp_path / "t.onnx")
    data = samples(tmp_path / "s.npz", model, "tokens", (1, 8, 32))
    assert first_divergence(model, model, data) is None
    wrong = change_weight(model, tmp_path / "w.onnx", "w1", lambda weight: -weight)
    found = first_divergence(model, wrong, data)
    assert found is not None
    assert found.startswith("ffn1 (MatMul), output `h`: cosine -1.0")


def test_the_bound_decides_what_diverges(tmp_path: Path) -> None:
    model = mlp_onnx(tmp_path / "m.onnx")
    data = samples(tmp_path / "s.npz", model, "x", (1, 32))
    noisy = change_weight(model, tmp_path / "n.onnx", "w1", lambda weight: weight * 1.0 + 0.02)
    assert first_divergence(model, noisy, data, bound=0.5) is None
    assert first_divergence(model, noisy, data, bound=0.999999) is not None
