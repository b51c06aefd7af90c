"""Networks of the kinds that people bring, with made weights: convolutional, recurrent, attention, several inputs or
outputs. Each function returns (network, example inputs); `samples_of` gives data that suit it.

Weights are drawn from seed 0 and batch statistics settled on made data, so that activations have the spread of a
trained network's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Built = tuple[nn.Module, dict[str, Tensor]]
TOKENS = 2000


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation, "same" padding."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
    )


class _Excite(nn.Module):
    """Hu, Shen, Sun: Squeeze-and-Excitation Networks, 2018, figure 2."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = nn.functional.silu(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.excite(scale))


class _MobileBlock(nn.Module):
    """Tan, Le: EfficientNet, 2019, table 1 (MBConv with squeeze and excitation, SiLU)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels_in * expand
        first = [] if expand == 1 else [_conv(channels_in, hidden, 1), nn.SiLU()]
        middle = [_conv(hidden, hidden, kernel, stride, hidden), nn.SiLU(), _Excite(hidden, max(1, channels_in // 4))]
        self.body = nn.Sequential(*first, *middle, _conv(hidden, channels_out, 1))
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def efficientnet(size: int = 224) -> Built:
    """EfficientNet-B0's blocks, 3×`size`×`size` → 1000."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [_conv(3, 32, 3, 2), nn.SiLU()]
    width = 32
    table = (
        (1, 16, 3, 1, 1),
        (6, 24, 3, 2, 2),
        (6, 40, 5, 2, 2),
        (6, 80, 3, 2, 3),
        (6, 112, 5, 1, 3),
        (6, 192, 5, 2, 4),
    )
    for expand, channels, kernel, stride, repeats in (*table, (6, 320, 3, 1, 1)):
        for index in range(repeats):
            layers.append(_MobileBlock(width, channels, kernel, stride if index == 0 else 1, expand))
            width = channels
    layers += [_conv(width, 1280, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return settled(nn.Sequential(*layers), {"input": pictures(8, 3, size)})


class _Attention(nn.Module):
    """A pre-norm block as in Dosovitskiy et al.: An Image is Worth 16x16 Words, 2021, figure 1."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.before(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.between(x))


class _Vit(nn.Module):
    def __init__(self, size: int, width: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.place = nn.Parameter(torch.randn(1, (size // 16) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*[_Attention(width, width // 64) for _ in range(depth)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 100))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.place
        return self.head(self.blocks(x)[:, 0])


def vit(size: int = 224, width: int = 192, depth: int = 12) -> Built:
    """ViT-tiny, 3×`size`×`size` → 100."""
    torch.manual_seed(0)
    return settled(_Vit(size, width, depth), {"image": pictures(1, 3, size)})


class _Encoder(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(TOKENS, width), nn.Parameter(torch.randn(1, 64, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens) + self.place).mean(1))


def encoder(width: int = 256, layers: int = 4) -> Built:
    """nn.TransformerEncoder over 64 token ids (int64) → 10."""
    torch.manual_seed(0)
    return settled(_Encoder(width, layers), {"tokens": torch.randint(0, TOKENS, (1, 64))})


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], width: int) -> None:
        super().__init__()
        self.body, self.head = kind(40, width, num_layers=2, batch_first=True), nn.Linear(width, 12)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.body(frames)[0][:, -1])


def lstm(width: int = 128) -> Built:
    """Two layers of LSTM over 50 frames of 40 features → 12."""
    torch.manual_seed(0)
    return settled(_Recurrent(nn.LSTM, width), {"frames": torch.randn(1, 50, 40)})


def gru(width: int = 128) -> Built:
    """Two layers of GRU over 50 frames of 40 features → 12."""
    torch.manual_seed(0)
    return settled(_Recurrent(nn.GRU, width), {"frames": torch.randn(1, 50, 40)})


class _Unet(nn.Module):
    """Ronneberger, Fischer, Brox: U-Net, 2015, figure 1; the way up by transposed convolution, then by resizing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [self._pair(3, width), self._pair(width, 2 * width), self._pair(2 * width, 4 * width)]
        )
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.resize = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2 * width, width, 1))
        self.left, self.right = self._pair(4 * width, 2 * width), self._pair(2 * width, width)
        self.head = nn.Conv2d(width, 5, 1)

    @staticmethod
    def _pair(channels_in: int, channels_out: int) -> nn.Sequential:
        return nn.Sequential(
            _conv(channels_in, channels_out, 3), nn.ReLU(), _conv(channels_out, channels_out, 3), nn.ReLU()
        )

    def forward(self, image: Tensor) -> Tensor:
        one = self.down[0](image)
        two = self.down[1](nn.functional.max_pool2d(one, 2))
        three = self.down[2](nn.functional.max_pool2d(two, 2))
        two = self.left(torch.cat((two, self.up(three)), 1))
        return self.head(self.right(torch.cat((one, self.resize(two)), 1)))


def unet(size: int = 128, width: int = 24) -> Built:
    """U-Net of three levels, 3×`size`×`size` → 5×`size`×`size`."""
    torch.manual_seed(0)
    return settled(_Unet(width), {"image": pictures(8, 3, size)})


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            _conv(1, 32, 3, 2), nn.ReLU(), _conv(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.read = nn.Sequential(nn.Linear(20, 64), nn.ReLU())
        self.head = nn.Linear(128, 8)

    def forward(self, image: Tensor, record: Tensor) -> Tensor:
        return self.head(torch.cat((self.look(image).flatten(1), self.read(record)), 1))


def two_inputs(size: int = 64) -> Built:
    """A picture and a row of a table → 8."""
    torch.manual_seed(0)
    return settled(_TwoInputs(), {"image": pictures(8, 1, size), "record": torch.randn(8, 20)})


class _TwoOutputs(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        steps = [
            nn.Sequential(_conv(a, b, 3, 2), nn.ReLU()) for a, b in ((3, width), (width, 2 * width), (2 * width, 96))
        ]
        self.body = nn.Sequential(*steps)
        self.classes, self.boxes = nn.Conv2d(96, 6, 1), nn.Conv2d(96, 4, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.body(image)
        return {"scores": self.classes(x).flatten(2), "boxes": torch.exp(self.boxes(x).flatten(2).clamp(-4, 4))}


def two_outputs(size: int = 128) -> Built:
    """A detector's head: scores and boxes on a grid."""
    torch.manual_seed(0)
    return settled(_TwoOutputs(32), {"image": pictures(8, 3, size)})


def sensor(width: int = 48) -> Built:
    """One-dimensional convolutions over windows of 6 sensors × 256 readings → 7."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels_in, channels_out in ((6, width), (width, width), (width, 2 * width)):
        layers += [nn.Conv1d(channels_in, channels_out, 7, 2, 3), nn.BatchNorm1d(channels_out), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2 * width, 7))
    return settled(network, {"input": torch.randn(16, 6, 256)})


def table(width: int = 256) -> Built:
    """A perceptron on rows of 30 columns → 4."""
    torch.manual_seed(0)
    layers = [nn.Linear(30, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)]
    return settled(nn.Sequential(*layers), {"input": torch.randn(1, 30)})


NETWORKS: Mapping[str, Callable[[], Built]] = {
    "efficientnet": efficientnet,
    "vit": vit,
    "encoder": encoder,
    "lstm": lstm,
    "gru": gru,
    "unet": unet,
    "two_inputs": two_inputs,
    "two_outputs": two_outputs,
    "sensor": sensor,
    "table": table,
}


def settled(network: nn.Module, inputs: dict[str, Tensor]) -> Built:
    """Fill the batch statistics from `inputs`; in evaluation mode, with the first of them as the example."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None
        network.train()
        with torch.no_grad():
            network(**inputs)
    return network.eval(), {name: value[:1] for name, value in inputs.items()}


def pictures(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    """Smooth patterns with some noise, of mean 0: [count, channels, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return smooth + 0.2 * torch.randn(count, channels, size, size, generator=generator)


def samples_of(inputs: Mapping[str, Tensor], count: int) -> dict[str, Any]:
    """`count` samples like the example inputs: pictures for four dimensions, ids for integers, else normal numbers."""
    generator = torch.Generator().manual_seed(1)
    found: dict[str, np.ndarray] = {}
    for name, value in inputs.items():
        sizes = tuple(value.shape[1:])
        if not value.is_floating_point():
            found[name] = torch.randint(0, TOKENS, (count, *sizes), generator=generator).numpy()
        elif value.dim() == 4:
            found[name] = pictures(count, sizes[0], sizes[1], seed=1).numpy()
        else:
            found[name] = torch.randn(count, *sizes, generator=generator).numpy()
    return found
