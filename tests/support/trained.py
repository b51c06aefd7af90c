"""Small networks that were really trained, on scikit-learn's digits, with their sample files; trained once a machine.

`trained("residual")` takes two to five seconds the first time; later calls, of other test processes too, read files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from edgeopt_runner.protocol.samples import write_samples

EPOCHS = 12
TRAINING, CALIBRATION = 1200, 128


class Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Residual(nn.Module):
    """[N, 1, 8, 8] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class Depthwise(nn.Module):
    """Inverted residuals; [N, 1, 8, 8] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()]
        for width_in, width, stride in ((16, 24, 2), (24, 24, 1)):
            hidden = width_in * 4
            layers += [nn.Conv2d(width_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
            layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)]
            layers += [nn.ReLU6(), nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))


class Attention(nn.Module):
    """Multi-head self-attention written out, as most vision transformers have it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, -1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """The rows of the picture are its tokens; [N, 1, 8, 8] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(torch.randn(1, 8, 32) * 0.1)
        self.layers = nn.Sequential(Layer(32, 4), Layer(32, 4))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.layers(self.embed(image[:, 0]) + self.place)
        return self.head(self.norm(x).mean(1))


class Recurrent(nn.Module):
    """An LSTM over the rows; [N, 1, 8, 8] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.lstm(image[:, 0])[0][:, -1])


class LargeKernels(nn.Module):
    """5×5 kernels: same, strided, depthwise; [N, 1, 8, 8] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 16, 5, 1, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        layers += [nn.Conv2d(16, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        layers += [nn.Conv2d(32, 32, 5, 1, 2, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Conv2d(32, 32, 1), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


NETWORKS = {
    "residual": Residual,
    "depthwise": Depthwise,
    "transformer": Transformer,
    "recurrent": Recurrent,
    "large_kernels": LargeKernels,
}


@dataclass(frozen=True)
class Trained:
    """A trained network's files. Samples have feeds [1, 1, 8, 8] of ``image`` and ``labels``.

    Attributes:
        network: The ONNX file, nothing folded (batch normalisation is there), dynamic batch; ``image`` to ``logits``.
        training: 1200 samples. calibration: 128 others of its kind, no labels. evaluation: 469 never seen in training.
        top1: The share of `evaluation` that the network gets right.
    """

    network: Path
    training: Path
    calibration: Path
    evaluation: Path
    top1: float


@cache
def trained(name: str) -> Trained:
    """Train, or read what another process trained."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    digest = hashlib.sha256(Path(__file__).read_bytes() + torch.__version__.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir(), f"edgeopt-trained-{os.getuid()}-{digest}")
    if not (folder / name / "top1").exists():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _make(NETWORKS[name](), Path(work, "made"))
            try:
                Path(work, "made").rename(folder / name)
            except OSError:
                assert (folder / name / "top1").exists()  # another process was quicker
    made = folder / name
    files = (made / f"{part}.npz" for part in ("training", "calibration", "evaluation"))
    return Trained(made / "network.onnx", *files, float((made / "top1").read_text()))


def module_of(name: str) -> nn.Module:
    """The same trained network as the torch module it was, in evaluation mode."""
    network = NETWORKS[name]()
    network.load_state_dict(torch.load(trained(name).network.with_name("weights.pt"), weights_only=True))
    return network.eval()


def _make(network: nn.Module, folder: Path) -> None:
    folder.mkdir()
    images, labels = _digits()
    _train(network, torch.from_numpy(images[:TRAINING]), torch.from_numpy(labels[:TRAINING]))
    network.eval()
    with torch.no_grad():
        outputs = network(torch.from_numpy(images)).numpy()
    held = slice(TRAINING + CALIBRATION, None)
    _write(folder / "training.npz", images[:TRAINING], labels=labels[:TRAINING])
    _write(folder / "calibration.npz", images[TRAINING : TRAINING + CALIBRATION])
    _write(folder / "evaluation.npz", images[held], labels=labels[held], **{"reference:logits": outputs[held][:, None]})
    torch.save(network.state_dict(), folder / "weights.pt")
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    form = {"dynamo": False, "opset_version": 17, "training": torch.onnx.TrainingMode.PRESERVE}
    torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        folder / "network.onnx",
        dynamic_axes=axes,
        do_constant_folding=False,
        **names,
        **form,
    )
    (folder / "top1").write_text(str(float((outputs[held].argmax(1) == labels[held]).mean())))


def _digits() -> tuple[Any, Any]:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return (digits.images[order] / 16.0).astype(np.float32)[:, None], digits.target[order].astype(np.int64)


def _train(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    steps = EPOCHS * -(-len(images) // 50)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=8e-3, total_steps=steps)
    network.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(50):
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def _write(path: Path, images: Any, **members: Any) -> None:
    shaped = {name: value[:, None] if name == "labels" else value for name, value in members.items()}
    write_samples(str(path), {"input:image": images[:, None], **shaped})
