from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import DataError, ModelError
from edgeopt.graph.evaluate import evaluate_here, evaluate_onnx, evaluate_outputs
from edgeopt.graph.session import open_session, run_feed
from edgeopt_runner.protocol.samples import write_samples
from support.networks import broken_nan_onnx, constant_onnx, mlp_onnx

RNG = np.random.default_rng(0)
METRICS = """
def accuracy(outputs, labels):
    assert outputs["y"].shape == (20, 10), outputs["y"].shape
    assert labels.shape == (20,), labels.shape
    return (outputs["y"].argmax(-1) == labels).mean()

def raises(outputs, labels):
    return outputs["y"] / labels["none"]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return mlp_onnx(tmp_path / "m.onnx")


def write(path: Path, model: Path, *, right: int = 15, labelled: bool = True, referenced: bool = True) -> Path:
    """20 samples, `right` of whose labels are what `model` says."""
    inputs = RNG.standard_normal((20, 1, 32)).astype("f")
    session = open_session(model)
    outputs = np.stack([run_feed(session, {"x": item})["y"] for item in inputs])
    labels = outputs[:, 0].argmax(-1)
    labels[right:] = (labels[right:] + 1) % 10
    arrays: dict[str, Any] = {"input:x": inputs}
    if labelled:
        arrays["labels"] = labels
    if referenced:
        arrays["reference:y"] = outputs
    write_samples(str(path), arrays)
    return path


def test_top1_counts_right_answers_per_sample(model: Path, tmp_path: Path) -> None:
    evaluation = evaluate_onnx(model, write(tmp_path / "s.npz", model), "top1")
    assert evaluation.value == 0.75
    assert evaluation.per_sample == (1.0,) * 15 + (0.0,) * 5
    assert evaluation.extra == {"sqnr_db": 200.0, "top1_agreement": 1.0}


def test_a_limit_takes_the_first_samples(model: Path, tmp_path: Path) -> None:
    assert evaluate_here(model, write(tmp_path / "s.npz", model), "top1", 15).value == 1.0


def test_fidelity_is_the_mean_cosine(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "s.npz", model, labelled=False)
    assert evaluate_here(model, data, "fidelity").value == pytest.approx(1.0)
    other = evaluate_here(mlp_onnx(tmp_path / "o.onnx", seed=1), data, "fidelity")
    assert -1 < other.value < 0.9
    assert len(other.per_sample) == 20
    assert other.value == pytest.approx(np.mean(other.per_sample))
    assert other.extra["top1_agreement"] < 0.9


def test_constant_and_nan_models_score_low(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "s.npz", model, right=20)
    assert evaluate_here(constant_onnx(tmp_path / "c.onnx"), data, "top1").value < 0.5
    assert evaluate_here(broken_nan_onnx(tmp_path / "n.onnx"), data, "top1").value == 0.0


def test_a_users_metric_gets_all_outputs_and_labels(model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METRICS)
    evaluation = evaluate_onnx(model, write(tmp_path / "s.npz", model), f"{tmp_path / 'own.py'}:accuracy")
    assert evaluation.value == 0.75
    assert evaluation.per_sample == ()


def test_a_users_metric_that_fails_says_where(model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METRICS)
    with pytest.raises(
        DataError, match=r"own.py:raises on outputs y\[20, 10\] failed: IndexError: .*\(own.py, line 8\)"
    ):
        evaluate_here(model, write(tmp_path / "s.npz", model), f"{tmp_path / 'own.py'}:raises")


def test_outputs_of_a_device_are_scored_like_our_own(model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(METRICS)
    data = write(tmp_path / "s.npz", model)
    arrays = np.load(data)
    write_samples(str(tmp_path / "outputs.npz"), {"reference:y": arrays["reference:y"]})
    for metric in ("top1", "fidelity", f"{tmp_path / 'own.py'}:accuracy"):
        here = evaluate_here(model, data, metric)
        there = evaluate_outputs(tmp_path / "outputs.npz", data, metric)
        assert there.value == pytest.approx(here.value)
    write_samples(str(tmp_path / "few.npz"), {"reference:y": arrays["reference:y"][:5]})
    with pytest.raises(DataError, match="outputs for 5 samples, but 20 samples"):
        evaluate_outputs(tmp_path / "few.npz", data, "top1")


def test_what_a_metric_needs_and_has_not_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="top1 needs labels"):
        evaluate_here(model, write(tmp_path / "s.npz", model, labelled=False), "top1")
    with pytest.raises(DataError, match="no reference outputs"):
        evaluate_here(model, write(tmp_path / "r.npz", model, referenced=False), "fidelity")


def test_a_model_that_does_not_load_raises_in_the_parent_too(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "s.npz", model)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"cannot load bad.onnx"):
        evaluate_onnx(tmp_path / "bad.onnx", data, "top1")
