"""A detector in the shape of YOLOv8-n for the benchmarks: 3×256×256 → boxes and scores of 1344 places.

Its source is under a licence that the project's is not, so the shape alone is taken: backbone of blocks that split and
concatenate, pyramid up and down, heads of their own for boxes and classes, box edges as expected values of a
distribution (Li et al.: Generalized Focal Loss, 2020, equation 4).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 256
CLASSES = 80
_BINS = 16
_SURE = 4.0
"""Scale of the last weights: few scores are high and edges are sharp, as in a trained detector."""

_WIDTHS = (16, 32, 64, 128, 256)


def _conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, SiLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.SiLU(),
    )


class _Split(nn.Module):
    """Half of the channels go through a chain of bottlenecks, and every link of the chain to the end."""

    def __init__(self, channels_in: int, channels_out: int, links: int, *, residual: bool) -> None:
        super().__init__()
        half = channels_out // 2
        self.residual = residual
        self.first = _conv(channels_in, channels_out, 1)
        self.chain = nn.ModuleList([nn.Sequential(_conv(half, half), _conv(half, half)) for _ in range(links)])
        self.last = _conv((2 + links) * half, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for link in self.chain:
            made = link(parts[-1])
            parts.append(parts[-1] + made if self.residual else made)
        return self.last(torch.cat(parts, 1))


class _Pool(nn.Module):
    """Pooling over windows of 5, 9 and 13."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = _conv(width, width // 2, 1), _conv(2 * width, width, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(torch.cat(parts, 1))


class _Head(nn.Module):
    """Distances of the four edges in steps of the stride, and class scores, of one level: [N, 4, P], [N, C, P]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edges = nn.Sequential(_conv(width, 64), _conv(64, 64), nn.Conv2d(64, 4 * _BINS, 1))
        self.classes = nn.Sequential(_conv(width, 80), _conv(80, 80), nn.Conv2d(80, CLASSES, 1))
        self.register_buffer("bins", torch.arange(float(_BINS)).view(1, 1, _BINS, 1))
        with torch.no_grad():
            self.edges[-1].weight.mul_(_SURE)
            self.classes[-1].weight.mul_(_SURE)
            self.classes[-1].bias.fill_(-_SURE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        edges = self.edges(x).flatten(2).unflatten(1, (4, _BINS)).softmax(2)
        return (edges * self.bins).sum(2), self.classes(x).flatten(2)


class Detector(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = _WIDTHS
        self.stem = nn.Sequential(_conv(3, a, 3, 2), _conv(a, b, 3, 2), _Split(b, b, 1, residual=True))
        self.small = nn.Sequential(_conv(b, c, 3, 2), _Split(c, c, 2, residual=True))
        self.middle = nn.Sequential(_conv(c, d, 3, 2), _Split(d, d, 2, residual=True))
        self.large = nn.Sequential(_conv(d, e, 3, 2), _Split(e, e, 1, residual=True), _Pool(e))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        joined = ((e + d, d), (d + c, c), (c + d, d), (d + e, e))
        self.join = nn.ModuleList([_Split(*widths, 1, residual=False) for widths in joined])
        self.down = nn.ModuleList([_conv(c, c, 3, 2), _conv(d, d, 3, 2)])
        self.heads = nn.ModuleList([_Head(c), _Head(d), _Head(e)])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Boxes [N, 4, 1344] in steps of their stride and scores [N, 80, 1344] in 0..1, of images [N, 3, 256, 256]."""
        small = self.small(self.stem(image))
        middle = self.middle(small)
        large = self.large(middle)
        up = self.join[0](torch.cat((self.up(large), middle), 1))
        first = self.join[1](torch.cat((self.up(up), small), 1))
        second = self.join[2](torch.cat((self.down[0](first), up), 1))
        third = self.join[3](torch.cat((self.down[1](second), large), 1))
        found = [head(level) for head, level in zip(self.heads, (first, second, third), strict=True)]
        boxes, scores = (torch.cat(parts, 2) for parts in zip(*found, strict=True))
        return {"boxes": boxes, "scores": scores.sigmoid()}
