"""Several processes train what one would, and an end of one of them is told."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from edgeopt.child import run_child
from edgeopt.errors import DataError, PassError
from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import write_samples
from support.training import digits, fresh, same, small

TWO = TrainingOptions(epochs=2, learning_rate=5e-3, processes=2)


def test_two_processes_follow_the_loss_curve_of_one_with_the_same_batch() -> None:
    one, two = fresh("residual"), fresh("residual")  # has batch normalisation: statistics must be the batch's
    alone = train(one, digits(320), supervised(), TrainingOptions(epochs=2, learning_rate=5e-3), seed=0)
    both = train(two, digits(320), supervised(), TWO, seed=0)
    assert both.notes == ()
    assert both.losses == pytest.approx(alone.losses, rel=2e-3)
    assert both.validation == pytest.approx(alone.validation, rel=1e-2)
    norms = [dict(network.named_buffers())["stem.1.running_mean"] for network in (one, two)]
    assert torch.allclose(*norms, rtol=1e-2, atol=1e-3)


def test_two_processes_repeat_themselves_and_leave_nothing_behind() -> None:
    first, second = small(), small()
    for network in (first, second):
        train(network, digits(100), supervised(), TWO, seed=0)
    assert same(first, second)
    assert not dist.is_initialized()
    assert "forward" not in vars(first.stem[1])
    assert torch.get_num_threads() == 1


def test_a_parameter_that_nobody_used_stays_as_it_was() -> None:
    network = small()
    network.idle = nn.Linear(3, 3)
    before = network.idle.weight.clone()
    train(network, digits(100), supervised(), TrainingOptions(epochs=1, processes=2, weight_decay=0.5), seed=0)
    assert torch.equal(network.idle.weight, before)


def test_more_processes_than_samples_of_a_batch_are_not_started() -> None:
    report = train(small(), digits(40), supervised(), TrainingOptions(epochs=1, batch_size=4, processes=9), seed=0)
    assert math.isfinite(report.losses[0])


def test_what_a_follower_finds_wrong_is_told_as_it_is(tmp_path: Path) -> None:
    (images,), labels = digits(64).batch(range(64))
    assert labels is not None
    images[2:] = math.nan  # the first two are tried before the processes begin
    write_samples(str(tmp_path / "s.npz"), {"input:image": images[:, None], "labels": labels[:, None]})
    with pytest.raises(DataError, match=r"sample \d+ of s\.npz holds nan in `image`"):
        train(small(), Samples(tmp_path / "s.npz", ["image"]), supervised(), TWO, seed=0)
    assert not dist.is_initialized()


def test_a_follower_that_is_killed_is_told_and_the_best_weights_stay() -> None:
    leader, network = os.getpid(), small()

    def end(_: nn.Module, step: int, __: int) -> None:
        if step == 5 and os.getpid() != leader:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(PassError, match=r"a process of the training ended \(exit code -9\)\. .*set processes to 1"):
        train(network, digits(100), supervised(), TWO, seed=0, after_step=end)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
    assert "forward" not in vars(network.stem[1])


def test_divergence_is_one_sentence_for_all() -> None:
    options = TrainingOptions(optimiser="sgd", learning_rate=1e30, schedule="fixed", warmup=0.0, processes=2)
    with pytest.raises(PassError, match=r"diverged"):
        train(small(), digits(100), supervised(), options, seed=0)


def test_where_processes_cannot_be_started_one_trains_and_says_so(tmp_path: Path) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # the caller's own
    try:
        network = small()
        report = train(network, digits(100), supervised(), TWO, seed=0)
    finally:
        dist.destroy_process_group()
    assert report.notes == ("2 processes could not be started here: one trained alone",)
    assert report.epochs == 2


def in_child(folder: str) -> list[float]:
    """Runs in a child of `run_child`, as passes do."""
    torch.set_num_threads(1)
    report = train(small(), digits(100), supervised(), TWO, seed=0, checkpoint=Path(folder, "c"))
    return [*report.losses, float(len(report.notes))]


def test_it_works_inside_the_child_that_a_pass_runs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    found = run_child("test_parallel:in_child", {"folder": str(tmp_path)}, deadline_seconds=120, what="training by two")
    assert found[-1] == 0
    assert np.isfinite(found).all()
