"""Template networks that a student is made of, for users without a constructor of their own: plain torch modules.

A function of this module is named like the user's own, as in ``edgeopt.training.families:residual(width=8, depth=2)``;
`inputs` and `outputs` are the original's where they are left out. Each returns the untrained network for pictures
[N, C, H, W] or signals [N, C, L], and an example of its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeopt.errors import ModelError

_SMALLEST = 4
"""Length that the shorter side of the last feature map is not to fall below."""
_STAGES, _HALVINGS = 4, 5

Shapes = Sequence[Sequence[int]]
_CONV = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}


def residual(
    *, inputs: Shapes, outputs: Shapes, width: int = 16, depth: int = 2, kernel: int = 3
) -> tuple[nn.Module, Tensor]:
    """Stages of residual blocks of two convolutions: the safe choice where there is a GPU, or little to save.

    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2016, fig. 2 (left) and option B of §3.3.

    Args:
        inputs: Shape of the one picture without the batch, [[C, H, W]] or [[C, L]].
        outputs: Shape of the one output without the batch, [[classes]].
        width: Channels of the first stage; they double with each halving of the map, in four stages at most.
        depth: Blocks of each stage.
        kernel: Odd extent of the convolutions.

    Raises:
        ModelError: A value below 1, an even kernel, or shapes of another kind.
    """
    frame = _Frame(inputs, outputs, width, depth, kernel)
    blocks = [_Residual(frame.rank, *block, kernel) for block in frame.blocks]
    return frame.around(nn.ReLU(), blocks)


def inverted_residual(
    *, inputs: Shapes, outputs: Shapes, width: int = 16, depth: int = 2, kernel: int = 3, expansion: int = 4
) -> tuple[nn.Module, Tensor]:
    """Stages of inverted residuals with depthwise convolutions: few weights and multiplications, best on a CPU.

    Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018, table 1 and
    fig. 3(b); the widths are ours, as the pictures here are smaller.

    Args:
        inputs: As for `residual`.
        outputs: As for `residual`.
        width: As for `residual`, of the bottlenecks.
        depth: As for `residual`.
        kernel: Odd extent of the depthwise convolutions.
        expansion: Channels between two bottlenecks, in parts of the first one's.

    Raises:
        ModelError: As for `residual`.
    """
    _demand_positive("expansion", expansion)
    frame = _Frame(inputs, outputs, width, depth, kernel)
    blocks = [_Inverted(frame.rank, *block, kernel, expansion) for block in frame.blocks]
    last = [_conv(frame.rank, frame.width, frame.width * expansion), nn.ReLU6()]
    return frame.around(nn.ReLU6(), [*blocks, *last], frame.width * expansion)


class _Frame:
    """What the networks have in common: a stem, stages of blocks, a pooled head; the picture decides the halvings.

    Attributes:
        rank: Spatial dimensions.
        blocks: Channels before and after, and stride, of each block.
        width: Channels behind the last block.
    """

    def __init__(self, inputs: Shapes, outputs: Shapes, width: int, depth: int, kernel: int) -> None:
        for name, value in (("width", width), ("depth", depth), ("kernel", kernel)):
            _demand_positive(name, value)
        if kernel % 2 == 0:
            raise ModelError(f"kernel is {kernel}, must be odd.")
        if len(inputs) != 1 or len(inputs[0]) not in (2, 3) or len(outputs) != 1 or len(outputs[0]) != 1:
            raise ModelError(
                "the families are for one picture [C, H, W] or signal [C, L] and one output [classes], "
                f"not for inputs {_shown(inputs)} and outputs {_shown(outputs)}.",
                remedy="Give a constructor of your own, as in nets.py:build(width=16).",
            )
        self._shape, self._classes, self._first = tuple(inputs[0]), outputs[0][0], width
        self.rank = len(self._shape) - 1
        halvings = min(int(math.log2(max(min(self._shape[1:]) / _SMALLEST, 1))), _HALVINGS)
        stages = min(halvings + 1, _STAGES)
        self._surplus = halvings + 1 - stages  # halvings before the second stage
        self.blocks = [
            (width << max(stage - (place == 0), 0), width << stage, 2 if place == 0 and self._halves(stage) else 1)
            for stage in range(stages)
            for place in range(depth)
        ]
        self.width = self.blocks[-1][1]

    def _halves(self, stage: int) -> bool:
        return stage > 0 or self._surplus > 1

    def around(self, activation: nn.Module, blocks: Sequence[nn.Module], width: int = 0) -> tuple[nn.Module, Tensor]:
        """The network with these blocks, the last of `width` channels, and an example of its input."""
        stem = _conv(self.rank, self._shape[0], self._first, 3, 2 if self._surplus else 1)
        head = (_POOL[self.rank](1), nn.Flatten(), nn.Linear(width or self.width, self._classes))
        return nn.Sequential(stem, activation, *blocks, *head), torch.zeros(1, *self._shape)


class _Residual(nn.Module):  # type: ignore[misc]
    """Two convolutions around a shortcut."""

    def __init__(self, rank: int, before: int, after: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _conv(rank, before, after, kernel, stride), nn.ReLU(), _conv(rank, after, after, kernel)
        )
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else _conv(rank, before, after, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


class _Inverted(nn.Module):  # type: ignore[misc]
    """Wider, filtered channel by channel, narrow again without an activation."""

    def __init__(self, rank: int, before: int, after: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        wider = [_conv(rank, before, inner), nn.ReLU6()] if expansion > 1 else []
        filtered = [_conv(rank, inner, inner, kernel, stride, inner), nn.ReLU6()]
        self.path = nn.Sequential(*wider, *filtered, _conv(rank, inner, after))
        self.same = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.path(x)
        return x + made if self.same else made


def _conv(rank: int, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    """A convolution that keeps the size but for its stride, and its batch normalisation."""
    layer = _CONV[rank](before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, _NORM[rank](after))


def _demand_positive(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"{name} is {value!r}, must be a whole number of at least 1.")


def _shown(shapes: Shapes) -> str:
    return ", ".join(str(list(shape)) for shape in shapes) or "none"
