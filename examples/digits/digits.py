"""A small residual network for scikit-learn's handwritten digits, and the held-out samples to judge it by.

    edgeopt deploy examples/digits/digits.py:build --data examples/digits/digits.py:samples --target local

`python examples/digits/train.py` makes the weights first (under a minute on two cores).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

WEIGHTS = Path(__file__).with_name("digits.pt")
TRAINING_SAMPLES = 1000


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; halves the picture when `stride` is 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, channels_in, H, W] to [N, channels_out, H / stride, W / stride]."""
        return torch.relu(self.body(x) + self.shortcut(x))


class DigitNet(nn.Module):
    """[N, 1, 8, 8] in 0..1 to [N, 10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(1, 32, 3, 1, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(Block(32, 64, 1), Block(64, 128, 2), Block(128, 128, 2))
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch of pictures."""
        features: torch.Tensor = self.blocks(self.stem(x)).mean(dim=(2, 3))
        logits: torch.Tensor = self.head(features)
        return logits


def split() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and held-out pictures [N, 1, 8, 8] in 0..1 with their labels [N], in one fixed random order."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = (digits.images[order] / 16.0).astype(np.float32)[:, None]
    labels = digits.target[order].astype(np.int64)
    n = TRAINING_SAMPLES
    return (pictures[:n], labels[:n]), (pictures[n:], labels[n:])


def build() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """The trained network and an example input."""
    network = DigitNet()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return network.eval(), (torch.zeros(1, 1, 8, 8),)


def samples() -> Iterator[tuple[np.ndarray, int]]:
    """The held-out pictures that training never saw, one at a time, with their labels."""
    _, (pictures, labels) = split()
    for picture, label in zip(pictures, labels, strict=True):
        yield picture, int(label)
