"""Training learns real data, repeats itself, keeps the best weights, and ends in one clear sentence where it cannot."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeopt.errors import DataError, PassError
from edgeopt.training.engine import train
from edgeopt.training.losses import norm_scales, supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from edgeopt.training.transfer import freeze
from edgeopt_runner.protocol.samples import write_samples
from support.trained import module_of
from support.training import digits, fresh, same, small, top1


def test_it_learns_digits_that_it_has_not_seen() -> None:
    network = fresh("residual")
    report = train(network, digits(), supervised(), TrainingOptions(epochs=3, learning_rate=5e-3), seed=0)
    assert top1(network) > 0.97
    assert not network.training
    assert (report.epochs, report.steps, len(report.losses), len(report.validation)) == (3, 102, 3, 4)
    assert report.losses[-1] < 0.2 < report.losses[0]
    assert report.validation[report.best_epoch] == min(report.validation[1:])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    options = TrainingOptions(epochs=1, batch="random")
    networks = [small() for _ in range(3)]
    for network, seed in zip(networks, (5, 5, 6), strict=True):
        torch.rand(3)  # what happened before must not count
        train(network, digits(300), supervised(), options, seed=seed)
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])


def test_it_leaves_torchs_random_numbers_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(small(), digits(100), supervised(), TrainingOptions(epochs=1), seed=0)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "sgd", "learning_rate": 0.2},
        {"optimiser": "momentum", "learning_rate": 0.05, "schedule": "step"},
        {"optimiser": "rmsprop", "learning_rate": 0.002, "momentum": 0.5, "schedule": "linear"},
        {"optimiser": "adam", "schedule": "exponential", "batch": "tied", "batch_size": 8},
        {"optimiser": "adamw", "schedule": "fixed", "batch": "random", "warmup": 0.0, "clip_norm": 1.0},
    ],
)
def test_every_optimiser_schedule_and_batch_rule_learns(changes: dict[str, Any]) -> None:
    options = TrainingOptions(**{"epochs": 4, "learning_rate": 0.01, **changes})
    report = train(small(), digits(400), supervised(), options, seed=0)
    assert report.validation[-1] < 0.5 * report.validation[0]


def test_weights_from_before_win_where_training_makes_it_worse_and_they_count() -> None:
    network = module_of("residual")
    before = copy.deepcopy(network)
    harmful = TrainingOptions(epochs=2, optimiser="sgd", learning_rate=3.0, schedule="fixed", best_after=0)
    report = train(network, digits(300), supervised(), harmful, seed=0)
    assert report.best_epoch == 0
    assert same(network, before)
    assert any("no epoch was better" in note for note in report.notes)


def test_the_last_weights_are_kept_where_only_they_count() -> None:
    seen: list[Tensor] = []
    options = TrainingOptions(epochs=3, optimiser="sgd", learning_rate=2.0, schedule="fixed", best_after=3)
    network = small()
    report = train(
        network, digits(200), supervised(), options, seed=0, after_step=lambda n, *_: seen.append(n.head.weight.clone())
    )
    assert torch.equal(network.head.weight, seen[-1])
    assert report.best_epoch == 3


def test_a_loss_that_becomes_nan_is_told_and_the_best_weights_stay() -> None:
    network = fresh("residual")

    def spoil(changed: nn.Module, step: int, _: int) -> None:
        if step == 90:
            changed.head.weight.data.fill_(math.nan)

    with pytest.raises(PassError, match=r"diverged: the loss is nan in epoch 3 at learning rate .*learning_rate to 0"):
        train(network, digits(), supervised(), TrainingOptions(epochs=3, learning_rate=5e-3), seed=0, after_step=spoil)
    assert top1(network) > 0.9
    assert not network.training


def test_a_learning_rate_without_measure_diverges_in_words() -> None:
    network = small()
    options = TrainingOptions(optimiser="sgd", learning_rate=1e30, schedule="fixed", warmup=0.0)
    with pytest.raises(PassError, match=r"diverged.*1e\+30.*clip_norm"):
        train(network, digits(100), supervised(), options, seed=0)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


def test_a_loss_that_is_never_a_number_is_told_before_the_first_step() -> None:
    def loss(network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        return network(*inputs).sum() * math.nan

    with pytest.raises(PassError, match="is nan before the first step"):
        train(small(), digits(50), loss, TrainingOptions(), seed=0)


def test_it_stops_early_when_nothing_gets_better() -> None:
    options = TrainingOptions(epochs=9, optimiser="sgd", learning_rate=1e-30, patience=2, freeze_norms=True)
    report = train(small(), digits(100), supervised(), options, seed=0)
    assert report.epochs == 3
    assert report.notes == (
        f"stopped early after 3 epochs: the validation loss was best ({report.validation[1]:.3g}) after 1",
    )


def test_it_ends_in_time_with_what_it_has() -> None:
    network = small()
    report = train(network, digits(100), supervised(), TrainingOptions(epochs=50, max_seconds=1e-6), seed=0)
    assert report.steps == 0
    assert "max_seconds" in report.notes[0]
    assert same(network, small())


def test_frozen_layers_keep_weights_and_statistics() -> None:
    network, before = small(), small()
    freeze(network, ["stem"])
    train(network, digits(200), supervised(), TrainingOptions(epochs=1), seed=0)
    assert same(network.stem, before.stem)
    assert not torch.equal(network.body[3].running_mean, before.body[3].running_mean)
    train(network, digits(200), supervised(), TrainingOptions(epochs=1, freeze_norms=True), seed=0)
    statistics = network.body[3].running_mean.clone()
    train(network, digits(200), supervised(), TrainingOptions(epochs=1, freeze_norms=True), seed=0)
    assert torch.equal(network.body[3].running_mean, statistics)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(PassError, match="every parameter is frozen"):
        train(small().requires_grad_(False), digits(50), supervised(), TrainingOptions(), seed=0)


def test_penalties_shrink_what_they_punish() -> None:
    def scale(**changes: float) -> float:
        network = small()
        options = TrainingOptions(epochs=5, learning_rate=0.01, best_after=5, **changes)
        train(network, digits(300), supervised(), options, seed=0)
        return float(sum(gamma.detach().abs().mean() for gamma in norm_scales(network)))

    assert scale(norm_penalty=0.05) < 0.8 * scale()


def test_clipping_bounds_each_step() -> None:
    network, steps = small(), [torch.cat([p.detach().flatten() for p in small().parameters()])]
    train(
        network,
        digits(200),
        supervised(),
        TrainingOptions(epochs=1, optimiser="sgd", learning_rate=1.0, clip_norm=0.01, weight_decay=0.0, warmup=0.0),
        seed=0,
        after_step=lambda n, *_: steps.append(torch.cat([p.detach().flatten() for p in n.parameters()])),
    )
    moves = [float((later - earlier).norm()) for earlier, later in itertools.pairwise(steps)]
    assert max(moves) == pytest.approx(0.01, rel=0.01)


def test_a_loss_with_parameters_trains_them_along() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
            return nn.functional.cross_entropy(network(*inputs) * self.scale, labels)

    loss = Scaled()
    train(small(), digits(200), loss, TrainingOptions(epochs=1), seed=0)
    assert float(loss.scale.detach()) != 1.0


def test_the_hook_hears_each_step_and_their_number() -> None:
    heard: list[tuple[int, int]] = []
    options = TrainingOptions(epochs=2, batch_size=20, batch="tied")
    report = train(
        small(),
        digits(200),
        supervised(),
        options,
        seed=0,
        after_step=lambda _, step, steps: heard.append((step, steps)),
    )
    assert [step for step, _ in heard] == list(range(1, report.steps + 1))
    assert {steps for _, steps in heard} == {report.steps}


class Fixed(nn.Module):
    """Takes batches of one only, as networks exported without a dynamic batch do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(image).reshape(1, 64))


def test_a_network_that_takes_one_batch_size_learns_all_the_same() -> None:
    network = Fixed().eval()
    report = train(network, digits(300), supervised(), TrainingOptions(epochs=2, learning_rate=0.02), seed=0)
    assert "takes batches of 1 only" in report.notes[0]
    assert report.validation[-1] < 0.75 * report.validation[0]


def test_a_network_that_does_not_fit_the_samples_is_told(tmp_path: Path) -> None:
    write_samples(str(tmp_path / "s.npz"), {"input:image": np.zeros((8, 1, 3, 8, 8), np.float32)})
    with pytest.raises(PassError, match=r"does not run on the training samples: .*shapes and types"):
        train(small(), Samples(tmp_path / "s.npz", ["image"]), supervised(), TrainingOptions(), seed=0)
    with pytest.raises(DataError, match="--loss"):
        train(nn.Sequential(small(), nn.Linear(10, 1)).eval(), digits(50), supervised(), TrainingOptions(), seed=0)


def test_a_loss_that_fails_inside_torch_is_one_sentence() -> None:
    def loss(network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        return (network(*inputs) @ torch.zeros(3, 3)).sum()

    with pytest.raises(PassError, match=r"network or loss failed on \d+ samples: mat1 and mat2"):
        train(small(), digits(50), loss, TrainingOptions(), seed=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_gpu_that_is_not_there_is_told() -> None:
    with pytest.raises(PassError, match="no CUDA device"):
        train(small(), digits(50), supervised(), TrainingOptions(device="cuda"), seed=0)


def test_it_says_how_far_it_is_and_how_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, float]] = []
    monkeypatch.setenv("EDGEOPT_CHILD_PROGRESS", str(tmp_path / "progress"))

    def listen(*_: Any) -> None:
        if (tmp_path / "progress").exists():
            text, share = json.loads((tmp_path / "progress").read_text())
            heard.append((text, share))

    monkeypatch.setattr("edgeopt.training.progress._PERIOD_SECONDS", 0.0)
    train(small(), digits(100), supervised(), TrainingOptions(epochs=2), seed=0, after_step=listen)
    texts = [text for text, _ in heard]
    assert texts[0].startswith("epoch 1 of 2, loss ")
    assert texts[-1].startswith("epoch 2 of 2, loss ")
    assert texts[-1].endswith(" s left")
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] < 1
