"""Networks for the benchmark of compression, trained on scikit-learn's digits (1797 pictures of 8×8, real data).

Four families, at 32×32 (upscaled): residual, depthwise, a small transformer on patches, and an LSTM over the rows; and
the depthwise one with channels of uneven range.

edgeopt loads them by `networks.py:residual` and so on; `train` and `held_out` yield the samples. Weights are made by
the first call, with fixed seeds, and kept beside this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

FOLDER = Path(__file__).with_name("weights")
SIZE = 32
TRAINING_SAMPLES = 1000
BATCH = 50
OCTAVES = 1.5
EPOCHS = {"Residual": 12, "Depthwise": 12, "Transformer": 60, "Recurrent": 25}


def _conv(width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(width)
    )


class _Block(nn.Module):
    """He et al.: Deep Residual Learning for Image Recognition, 2015, figure 5 (left)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width_in, width, 3, stride), nn.ReLU(), _conv(width, width, 3))
        self.skip = nn.Identity() if width_in == width and stride == 1 else _conv(width_in, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.relu(self.body(x) + self.skip(x))


class Residual(nn.Module):
    """[N, 1, 32, 32] to [N, 10]; 18 million multiply-accumulates."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))
        self.stem = nn.Sequential(_conv(1, 32, 3, 2), nn.ReLU())
        self.blocks = nn.Sequential(*(_Block(*one) for one in widths))
        self.head = nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class Depthwise(nn.Module):
    """Sandler et al.: MobileNetV2, 2018, figure 4 (d); [N, 1, 32, 32] to [N, 10]."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(1, 24, 3, 2), activation()]
        for width_in, width, stride in ((24, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)):
            layers.append(_Inverted(width_in, width, stride, activation))
        self.features = nn.Sequential(*layers, _conv(48, 160, 1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(160, 10)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return self.head(self.features(image))


class _Inverted(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int, activation: type[nn.Module]) -> None:
        super().__init__()
        hidden = 4 * width_in
        self.body = nn.Sequential(
            *(_conv(width_in, hidden, 1), activation()),
            *(_conv(hidden, hidden, 3, stride, hidden), activation()),
            _conv(hidden, width, 1),
        )
        self.residual = width_in == width and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.body(x) if self.residual else self.body(x)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""

        def split(y: Tensor) -> Tensor:
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, -1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Dosovitskiy et al.: An Image is Worth 16x16 Words, 2020, on 8×8 patches; [N, 1, 32, 32] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        width = 128
        self.patches = nn.Conv2d(1, width, 8, 8)
        self.place = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        self.layers = nn.Sequential(*(_Layer(width, 4) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = self.patches(image).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.layers(x)).mean(1))


class Recurrent(nn.Module):
    """An LSTM over the rows; [N, 1, 32, 32] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return self.head(self.lstm(image[:, 0])[0][:, -1])


def split() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and held-out pictures [N, 1, 32, 32] in 0..1 with their labels [N], in one fixed random order."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pictures = torch.from_numpy((digits.images[order] / 16.0).astype(np.float32))[:, None]
    pictures = nn.functional.interpolate(pictures, SIZE, mode="bilinear", align_corners=False).numpy()
    labels = digits.target[order].astype(np.int64)
    n = TRAINING_SAMPLES
    return (pictures[:n], labels[:n]), (pictures[n:], labels[n:])


def train() -> Iterator[tuple[np.ndarray, int]]:
    """The pictures that the networks were trained on, one at a time, with their labels."""
    yield from _pairs(*split()[0])


def held_out() -> Iterator[tuple[np.ndarray, int]]:
    """Pictures that training never saw."""
    yield from _pairs(*split()[1])


def _pairs(pictures: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    for picture, label in zip(pictures, labels, strict=True):
        yield picture, int(label)


def trained(kind: type[nn.Module]) -> nn.Module:
    """A network with its weights, trained now where that was not done before."""
    path = FOLDER / f"{kind.__name__.lower()}-{_made_by(kind)}.pt"
    torch.manual_seed(0)
    network = kind()
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    pictures, labels = (torch.from_numpy(array) for array in split()[0])
    steps = EPOCHS[kind.__name__] * (len(pictures) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    network.train()
    for _ in range(EPOCHS[kind.__name__]):
        for batch in torch.randperm(len(pictures)).split(BATCH):
            shift = torch.randint(-2, 3, (2,)).tolist()
            outputs = network(pictures[batch].roll(shift, (2, 3)))
            loss = nn.functional.cross_entropy(outputs, labels[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    FOLDER.mkdir(exist_ok=True)
    torch.save(network.state_dict(), path)
    return network.eval()


def _made_by(kind: type[nn.Module]) -> str:
    """Digest of what decides the weights: a network that is changed is trained anew."""
    shapes = [(name, list(tensor.shape)) for name, tensor in kind().state_dict().items()]
    return hashlib.sha256(repr((shapes, EPOCHS[kind.__name__], SIZE, TRAINING_SAMPLES)).encode()).hexdigest()[:8]


def residual() -> tuple[nn.Module, tuple[Tensor]]:
    """The residual network and an example input."""
    return trained(Residual), (torch.zeros(1, 1, SIZE, SIZE),)


def depthwise() -> tuple[nn.Module, tuple[Tensor]]:
    """The depthwise network and an example input."""
    return trained(Depthwise), (torch.zeros(1, 1, SIZE, SIZE),)


def uneven() -> tuple[nn.Module, tuple[Tensor]]:
    """The depthwise network with ReLU for ReLU6, and channels of very different range; an example input.

    Scale is moved between layers by powers of two with a deviation of `OCTAVES`, so that it computes just the same:
    what MobileNets trained on large data have of themselves (Nagel et al.: Data-Free Quantization, 2019, figure 2),
    and digits do not bring about.
    """
    network = Depthwise(nn.ReLU)
    network.load_state_dict(trained(Depthwise).state_dict())
    random = torch.Generator().manual_seed(0)
    for block in network.features[2:6]:
        layers = [block.body[index] for index in (0, 2, 4)]
        for first, second in pairwise(layers):
            factor = 2.0 ** torch.round(torch.randn(first[1].num_features, generator=random) * OCTAVES)
            shape = (-1, 1, 1, 1) if second[0].groups > 1 else (1, -1, 1, 1)
            with torch.no_grad():
                first[1].weight.mul_(factor)
                first[1].bias.mul_(factor)
                second[0].weight.div_(factor.view(shape))
    return network.eval(), (torch.zeros(1, 1, SIZE, SIZE),)


def transformer() -> tuple[nn.Module, tuple[Tensor]]:
    """The transformer and an example input."""
    return trained(Transformer), (torch.zeros(1, 1, SIZE, SIZE),)


def recurrent() -> tuple[nn.Module, tuple[Tensor]]:
    """The LSTM and an example input."""
    return trained(Recurrent), (torch.zeros(1, 1, SIZE, SIZE),)
