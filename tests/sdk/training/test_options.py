"""Options, schedules, optimisers and plans of batches do what their sources say."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from edgeopt.training.batches import Batches, split
from edgeopt.training.optimisers import build_optimiser
from edgeopt.training.options import TrainingOptions
from edgeopt.training.schedules import SCHEDULES, decay, warm


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"optimiser": "lion"}, "optimiser is 'lion', must be one of sgd"),
        ({"schedule": "cosinus"}, "schedule is 'cosinus'"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"validation_share": 0.6}, "validation_share is 0.6"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"l1": float("nan")}, "l1 is nan"),
        ({"best_after": 11}, "best_after is 11, more than the 10 epochs"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0"),
        ({"processes": 2, "device": "cuda"}, "several processes train on the cpu"),
    ],
)
def test_nonsense_is_refused_with_its_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        TrainingOptions(**changes)


def test_all_bad_options_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"schedule is .*epochs is .*warmup is"):
        TrainingOptions(epochs=-1, schedule="x", warmup=2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_one_and_never_rises(name: str) -> None:
    factors = [decay(name, 0.1, share) for share in np.linspace(0, 1, 50)]
    assert factors[0] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors))
    assert all(factor >= 0 for factor in factors)
    assert decay(name, 0.1, 0.05) == 1.0, "no decay before the end of the warm-up"


def test_schedules_pass_through_the_points_that_define_them() -> None:
    assert decay("cosine", 0.0, 0.5) == pytest.approx(0.5)
    assert decay("linear", 0.2, 0.6) == pytest.approx(0.5)
    assert decay("exponential", 0.0, 0.5) == pytest.approx(0.1)
    assert [decay("step", 0.0, share) for share in (0.49, 0.5, 0.75)] == [1.0, 0.1, 0.01]
    assert warm(0.1, 0.05) == pytest.approx(0.5)
    assert warm(0.0, 0.0) == 1.0


@pytest.mark.parametrize("batch", ["fixed", "random", "tied"])
def test_an_epoch_sees_every_sample_once_and_no_batch_is_too_small(batch: Any) -> None:
    plan = Batches(161, TrainingOptions(epochs=3, batch_size=16, batch=batch), seed=4)
    total = 0
    for epoch in range(3):
        batches = list(plan.epoch(epoch))
        assert sorted(np.concatenate(batches).tolist()) == list(range(161))
        assert min(len(indices) for indices in batches) >= 2
        assert [len(indices) for indices in batches] == plan.sizes(epoch)
        total += len(batches)
    assert total == plan.steps()


def test_orders_differ_by_epoch_and_seed_but_repeat() -> None:
    plan = Batches(40, TrainingOptions(), seed=1)
    first = np.concatenate(list(plan.epoch(0))).tolist()
    assert first == np.concatenate(list(plan.epoch(0))).tolist()
    assert first != np.concatenate(list(plan.epoch(1))).tolist()
    assert first != np.concatenate(list(Batches(40, TrainingOptions(), seed=2).epoch(0))).tolist()


def test_random_batches_vary_between_half_and_double() -> None:
    sizes = Batches(4000, TrainingOptions(batch_size=16, batch="random"), seed=0).sizes(0)[:-1]
    assert len(set(sizes)) > 10
    assert min(sizes) >= 8
    assert max(sizes) <= 32


def test_tied_batches_grow_while_the_rate_stays_until_the_batch_is_a_tenth_of_the_samples() -> None:
    options = TrainingOptions(epochs=10, batch_size=8, batch="tied", schedule="exponential", warmup=0.0)
    plan = Batches(1000, options, seed=0)
    sizes = [plan.sizes(epoch)[0] for epoch in range(10)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (8, 100)
    for epoch, size in enumerate(sizes):
        share = plan.share(epoch, 0)
        rate = plan.learning_rate(share, size)
        noise = options.learning_rate * decay("exponential", 0.0, share) / 8
        assert rate / size == pytest.approx(noise, rel=0.07), "the noise is the same as with a falling rate"
        assert rate == pytest.approx(options.learning_rate, rel=0.07) or size == 100


def test_the_split_repeats_by_seed_and_loses_nothing() -> None:
    learned, held = split(50, 0.2, seed=3)
    assert sorted([*learned, *held]) == list(range(50))
    assert len(held) == 10
    assert held.tolist() == split(50, 0.2, seed=3)[1].tolist()
    assert held.tolist() != split(50, 0.2, seed=4)[1].tolist()
    assert len(split(3, 0.1, seed=0)[1]) == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", "SGD"), ("momentum", "SGD"), ("rmsprop", "RMSprop"), ("adam", "Adam"), ("adamw", "AdamW")],
)
def test_each_optimiser_is_what_it_is_called_and_spares_biases_from_decay(name: Any, kind: str) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    network[0].bias.requires_grad_(False)
    optimiser = build_optimiser(network.parameters(), TrainingOptions(optimiser=name, weight_decay=0.1))
    assert type(optimiser).__name__ == kind
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays == {id(network[0].weight): 0.1, id(network[1].weight): 0.0, id(network[1].bias): 0.0}
    assert optimiser.param_groups[0].get("momentum", 0) == (0.9 if name in ("momentum", "rmsprop") else 0)
