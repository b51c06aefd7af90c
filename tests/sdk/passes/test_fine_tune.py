"""Fine-tuning wins back on real data what a network lost, keeps what must stay, and says what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import DataError, EdgeoptError, PassError
from edgeopt.passes._base import PassContext, PassReport
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import top1
from support.trained import trained

FEW = {"epochs": 2, "learning_rate": 5e-3}


def _weights(path: Path) -> dict[str, np.ndarray]:
    """Constants of two dimensions or more, by the node that reads them."""
    model = onnx.load(path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.name: arrays[name]
        for node in model.graph.node
        for name in node.input
        if arrays.get(name, np.zeros(0)).ndim > 1
    }


def _pruned(folder: Path, share: float) -> Path:
    """The trained residual network without the smallest weights of each layer."""
    model = onnx.load(trained("residual").network)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.ndim > 1:
            array[np.abs(array) <= np.quantile(np.abs(array), share)] = 0.0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, folder / "pruned.onnx")
    return folder / "pruned.onnx"


def _tuned(source: Path, folder: Path, options: dict[str, Any], **context: Any) -> tuple[Path, PassReport]:
    given = PassContext(**{"work": folder, "training": trained("residual").training, **context})
    destination = folder / "tuned.onnx"
    return destination, load_pass(PassSpec("fine_tune", options)).apply(source, destination, given)


def test_it_wins_back_what_pruning_lost_and_leaves_pruned_weights_at_zero(tmp_path: Path) -> None:
    files = trained("residual")
    pruned = _pruned(tmp_path, 0.75)
    tuned, _ = _tuned(pruned, tmp_path, FEW, checkpoint=tmp_path / "checkpoint")
    assert top1(pruned, files) < files.top1 - 0.5
    assert top1(tuned, files) >= files.top1 - 0.03
    for name, array in _weights(tuned).items():
        before = _weights(pruned)[name]
        assert (array[before == 0] == 0).all(), name
        assert not np.array_equal(array, before), name
    assert (tmp_path / "checkpoint").exists()


def test_zeros_may_learn_where_the_user_says_so(tmp_path: Path) -> None:
    pruned = _pruned(tmp_path, 0.75)
    tuned, _ = _tuned(pruned, tmp_path, {"epochs": 1, "keep_zeros": False})
    assert all(np.count_nonzero(array) > 0.9 * array.size for array in _weights(tuned).values())


def test_layers_that_are_frozen_stay_as_they_are(tmp_path: Path) -> None:
    pruned = _pruned(tmp_path, 0.5)
    tuned, report = _tuned(pruned, tmp_path, {"epochs": 1, "train_last": 1, "keep_zeros": False})
    before, after = _weights(pruned), _weights(tuned)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["/head/Gemm"]
    assert any("did not learn" in note for note in report.notes)
    tuned, _ = _tuned(pruned, tmp_path, {"epochs": 1, "freeze": ("/blocks", "/head"), "keep_zeros": False})
    after = _weights(tuned)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["/stem/stem.0/Conv"]


def test_a_training_that_only_harms_changes_nothing_and_says_so(tmp_path: Path) -> None:
    source = trained("residual").network
    harmful = {"epochs": 1, "optimiser": "sgd", "learning_rate": 3.0, "schedule": "fixed"}
    tuned, report = _tuned(source, tmp_path, harmful)
    assert top1(tuned, trained("residual")) == trained("residual").top1
    assert any("no epoch was better" in note for note in report.notes)


def test_the_users_loss_is_the_one_that_is_trained(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("def zero(outputs, labels): return (outputs ** 2).mean()\n")
    options = {"epochs": 3, "learning_rate": 0.01, "validation_share": 0.0}
    tuned, _ = _tuned(trained("residual").network, tmp_path, options, loss=f"{tmp_path / 'user.py'}:zero")
    assert np.linalg.norm(_weights(tuned)["/head/Gemm"]) < np.linalg.norm(
        _weights(trained("residual").network)["/head/Gemm"]
    )
    assert top1(tuned, trained("residual")) < 0.9, "that loss knows no labels"


@pytest.mark.parametrize(
    ("options", "context", "error", "words"),
    [
        ({}, {"training": None}, PassError, r"needs labels.* Give --train data\.py:train"),
        ({}, {"training": trained("residual").calibration}, PassError, r"samples have none\. Give --train"),
        ({"freeze": ("/neck",)}, {}, PassError, r"no layer '/neck' to freeze.*/stem/stem\.0/Conv"),
        ({"train_last": 99}, {}, PassError, "99 last layers cannot be trained alone"),
        ({"learning_rate": 1e30, "optimiser": "sgd"}, {}, PassError, "diverged.*learning_rate to"),
        ({"epochs": 0}, {}, PassError, "epochs is 0"),
        ({"schedule": "cosinus"}, {}, PassError, "cosinus"),
        ({"train_last": -1}, {}, PassError, "train_last is -1"),
        ({}, {"loss": "nowhere.py:loss"}, DataError, r"no file nowhere\.py"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    options: dict[str, Any], context: dict[str, Any], error: type[EdgeoptError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        _tuned(trained("residual").network, tmp_path, options, **context)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check: Callable[[Case], None], tmp_path: Path) -> None:
    files = trained("recurrent")
    case = Case(
        "fine_tune",
        network=files.network,
        samples=files.calibration,
        work=tmp_path,
        options={"epochs": 1},
        training=files.training,
    )
    check(case)
