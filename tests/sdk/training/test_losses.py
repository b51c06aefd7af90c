"""Losses on labels equal their definitions, and labels that do not fit are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeopt.errors import DataError, EdgeoptError, PassError
from edgeopt.training.losses import check_all_labels, loss_on_labels, norm_scales, penalty, supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import write_samples
from support.trained import module_of, trained


def test_whole_labels_get_cross_entropy_over_the_class_axis() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = nn.functional.cross_entropy(logits, labels)
    assert loss_on_labels(logits, labels) == pytest.approx(float(expected))
    pixels, classes = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    assert loss_on_labels(pixels, classes) == pytest.approx(float(nn.functional.cross_entropy(pixels, classes)))
    tokens, words = torch.randn(2, 7, 3), torch.randint(0, 3, (2, 7))
    wanted = nn.functional.cross_entropy(tokens.flatten(0, 1), words.flatten())
    assert loss_on_labels(tokens, words) == pytest.approx(float(wanted))


def test_a_network_that_ends_with_soft_max_is_not_given_another() -> None:
    logits, labels = torch.randn(8, 5), torch.randint(0, 5, (8,))
    assert loss_on_labels(logits.softmax(-1), labels) == pytest.approx(float(loss_on_labels(logits, labels)), rel=1e-5)


def test_real_labels_get_the_mean_squared_error() -> None:
    outputs, labels = torch.randn(6, 1), torch.randn(6)
    assert loss_on_labels(outputs, labels) == pytest.approx(float((outputs[:, 0] - labels).square().mean()))


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        (torch.zeros(4, 10), torch.tensor([1, 2, 10, 0]), r"label 10 is no class: the network has the classes 0 to 9"),
        (torch.zeros(4, 10), torch.tensor([1, -1, 3, 0]), r"label -1 is no class"),
        (torch.zeros(3, 3), torch.tensor([1, 2, 3]), r"Subtract 1 from the labels"),
        (torch.zeros(4, 1), torch.tensor([1, 0, 1, 0]), r"labels \[4\] do not fit the output \[4, 1\].*--loss"),
        (torch.zeros(4, 10), torch.zeros(4), r"labels \[4\] do not fit the output \[4, 10\]"),
    ],
)
def test_labels_that_do_not_fit_are_told_with_the_remedy(outputs: Any, labels: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        loss_on_labels(outputs, labels)


def test_a_wrong_label_is_found_in_all_samples_before_training_and_named(tmp_path: Path) -> None:
    samples = Samples(trained("residual").training, ["image"])
    labels = samples.labels(range(1200)).numpy()[:, None].copy()
    labels[777] = 12
    write_samples(str(tmp_path / "s.npz"), {"input:image": samples.batch(range(1200))[0][0][:, None], "labels": labels})
    check_all_labels(module_of("residual"), samples)
    with pytest.raises(DataError, match="label 12 of sample 777 is no class"):
        check_all_labels(module_of("residual"), Samples(tmp_path / "s.npz", ["image"]))
    with pytest.raises(PassError, match="Give --train"):
        check_all_labels(module_of("residual"), Samples(trained("residual").calibration, ["image"]))


LOSSES = """
import torch
def half(outputs, labels): return torch.nn.functional.cross_entropy(outputs, labels) / 2
def item(outputs, labels): return 3.0
def rows(outputs, labels): return outputs.sum(1)
def cut(outputs, labels): return outputs.detach().sum()
def fails(outputs, labels): return outputs[:, labels.nosuch]
"""


def test_the_users_loss_is_called_with_outputs_and_labels(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(LOSSES)
    inputs, labels = Samples(trained("residual").training, ["image"]).batch(range(8))
    network = module_of("residual")
    own = supervised(f"{tmp_path / 'user.py'}:half")(network, inputs, labels)
    assert float(own.detach()) == pytest.approx(float(supervised()(network, inputs, labels).detach()) / 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("item", "returned a float, not a scalar tensor"),
        ("rows", r"returned a tensor \[8\], not a scalar"),
        ("cut", "without gradient"),
        ("fails", r"AttributeError.*line 7"),
        ("missing", "has no function missing"),
    ],
)
def test_a_wrong_loss_of_the_user_is_told(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(LOSSES)
    inputs, labels = Samples(trained("residual").training, ["image"]).batch(range(8))
    with pytest.raises(EdgeoptError, match=words):
        supervised(f"{tmp_path / 'user.py'}:{name}")(module_of("residual"), inputs, labels)


def test_penalties_are_the_norms_that_they_cite() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.GroupNorm(1, 3))
    network[1].weight.data = torch.tensor([1.0, -2.0, 0.0])
    weights = network[0].weight.detach()
    assert len(norm_scales(network)) == 2
    assert penalty(network, TrainingOptions()) is None
    assert float(penalty(network, TrainingOptions(norm_penalty=0.5))) == pytest.approx(0.5 * (3 + 3))
    assert float(penalty(network, TrainingOptions(l1=0.1))) == pytest.approx(0.1 * float(weights.abs().sum()), rel=1e-5)
    groups = sum(float(np.linalg.norm(weights[index].numpy())) for index in range(3)) * 18**0.5
    assert float(penalty(network, TrainingOptions(group_lasso=2.0))) == pytest.approx(2 * groups, rel=1e-5)
