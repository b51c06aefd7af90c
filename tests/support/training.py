"""Small networks and samples for the tests of training."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeopt.training.samples import Samples
from support.trained import NETWORKS, trained


class Small(nn.Module):
    """[N, 1, 8, 8] to [N, 10] through normalisation and dropout: what depends on batches and on random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(self.stem(image)))


def small(seed: int = 0) -> Small:
    """Untrained, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Small().eval()


def fresh(name: str) -> nn.Module:
    """An untrained network of `support.trained`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name]().eval()


def digits(count: int | None = None) -> Samples:
    """The first training samples."""
    samples = Samples(trained("residual").training, ["image"])
    return samples if count is None else samples.subset(range(count))


def top1(network: nn.Module) -> float:
    """Share of samples never seen in training that it gets right."""
    samples = Samples(trained("residual").evaluation, ["image"])
    inputs, labels = samples.batch(range(len(samples)))
    with torch.no_grad():
        return float((copy.deepcopy(network).eval()(*inputs).argmax(1) == labels).double().mean())


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same bytes."""
    one, other = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def weights_file(path: Path) -> dict[str, Tensor]:
    """A state dict that a child wrote."""
    loaded: dict[str, Tensor] = torch.load(path, weights_only=True)
    return loaded
