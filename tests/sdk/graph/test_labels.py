from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import DataError
from edgeopt.graph.session import open_session, run_feed
from support.networks import matmul_transformer_onnx, mlp_onnx
from support.sampling import RNG, images, in_process, load, made, npz

METRICS = """
def mean_abs(outputs, labels):
    assert labels is None
    return -abs(outputs["logits"]).mean()

def nan(outputs, labels):
    return float("nan")

def no_such_output(outputs, labels):
    return outputs["boxes"].mean()
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan", "returned nan"),
        ("no_such_output", "KeyError: 'boxes'"),
        ("mean_abs", None),
    ],
)
def test_metrics_of_the_user_are_tried_at_once(cnn: Path, tmp_path: Path, name: str, says: str | None) -> None:
    functions = tmp_path / "metrics.py"
    functions.write_text(METRICS)
    source = npz(tmp_path / "d.npz", image=images(10))
    if says is None:
        assert in_process(source, cnn, tmp_path, metric=f"{functions}:{name}")["baseline"] < 0
        return
    with pytest.raises(DataError) as caught:
        in_process(source, cnn, tmp_path, metric=f"{functions}:{name}")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"image": images(10), "labels": np.arange(10) + 1}, {}, "labels go from 1 to 10, but output `logits` has"),
        ({"image": images(10), "labels": np.arange(10) + 1}, {}, "Subtract 1"),
        ({"image": images(10), "labels": np.arange(10) - 1}, {}, "labels go from -1 to"),
        ({"image": images(10), "labels": np.eye(10)}, {}, "one-hot: give their arg-max"),
        ({"image": images(10), "labels": np.arange(10) + 0.5}, {}, "no class numbers. Give --metric"),
        ({"image": images(10)}, {"metric": "top1"}, "top1 needs labels"),
    ],
)
def test_labels_that_do_not_fit_say_so(
    cnn: Path, tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        in_process(npz(tmp_path / "d.npz", **arrays), cnn, tmp_path, seed=3, **options)
    assert says in str(caught.value)


def test_labels_for_a_network_without_classes_are_refused(tmp_path: Path) -> None:
    model = matmul_transformer_onnx(tmp_path / "t.onnx")
    tokens = RNG.standard_normal((10, 8, 32)).astype("f")
    with pytest.raises(DataError, match=r"8 predictions over 32 classes a sample\), and there are 1 labels"):
        in_process(npz(tmp_path / "d.npz", tokens=tokens, labels=np.arange(10)), model, tmp_path)


def test_labels_for_every_position_are_taken(tmp_path: Path) -> None:
    model = matmul_transformer_onnx(tmp_path / "t.onnx")
    tokens = RNG.standard_normal((10, 8, 32)).astype("f")
    in_process(npz(tmp_path / "d.npz", tokens=tokens, labels=RNG.integers(0, 32, (10, 8))), model, tmp_path)
    assert made(tmp_path, "evaluation").shapes["labels"] == (6, 8)


def test_a_source_model_that_only_guesses_is_noted(tmp_path: Path) -> None:
    model = mlp_onnx(tmp_path / "m.onnx")
    x = RNG.standard_normal((100, 32)).astype("f")
    outputs = run_feed(open_session(model), {"x": x})["y"]
    wrong = npz(tmp_path / "wrong.npz", x=x, labels=outputs.argmin(-1))
    assert "guessing among 10 classes" in in_process(wrong, model, tmp_path)["notes"][-1]
    right = npz(tmp_path / "right.npz", x=x, labels=outputs.argmax(-1))
    result = in_process(right, model, tmp_path)
    assert result["baseline"] == 1.0
    assert result["notes"] == ["top1 over 60 samples moves in steps of 1.7 points."]


def test_an_unknown_metric_is_refused(cnn: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--metric is 'top5'\. It is top1, fidelity"):
        load(npz(tmp_path / "d.npz", image=images(4)), cnn, tmp_path, metric="top5")
