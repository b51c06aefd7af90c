"""Architectures with made weights for the benchmarks: ResNet-18 and MobileNetV2, 3×224×224 → 1000.

torchvision has both, but its wheel for the CPU build is not everywhere; these are the published shapes in a page.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

INPUT_SHAPE = (1, 3, 224, 224)


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation, "same" padding."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
    )


class _Basic(nn.Module):
    """He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, figure 5 (left)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels_in, channels_out, 3, stride), nn.ReLU(), _conv(channels_out, channels_out, 3)
        )
        same = stride == 1 and channels_in == channels_out
        self.skip = nn.Identity() if same else _conv(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class _Inverted(nn.Module):
    """Sandler et al.: MobileNetV2, Inverted Residuals and Linear Bottlenecks, 2018, figure 4 (d)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels_in * expand
        layers: list[nn.Module] = [] if expand == 1 else [_conv(channels_in, hidden, 1), nn.ReLU6()]
        layers += [_conv(hidden, hidden, 3, stride, hidden), nn.ReLU6(), _conv(hidden, channels_out, 1)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def resnet18() -> nn.Module:
    """ResNet-18 in eval mode, weights from seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_Basic(width, channels, stride), _Basic(channels, channels, 1)]
        width = channels
    return _settled(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000)))


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 (width 1.0) in eval mode, weights from seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [_conv(3, 32, 3, 2), nn.ReLU6()]
    width = 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, channels, repeats, stride in table:
        for index in range(repeats):
            layers.append(_Inverted(width, channels, stride if index == 0 else 1, expand))
            width = channels
    layers += [_conv(width, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return _settled(nn.Sequential(*layers))


NETWORKS = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}


def _settled(network: nn.Module) -> nn.Module:
    """Fill the batch statistics from made images, so that activations have the spread of a trained network's."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.randn(16, *INPUT_SHAPE[1:]))
    return network.eval()


def export(name: str, path: Path) -> Path:
    """Write network `name` as ONNX (opset 20, batch 1, weights inside) and return `path`."""
    network = NETWORKS[name]()
    torch.onnx.export(
        network,
        (torch.randn(INPUT_SHAPE),),
        str(path),
        input_names=["image"],
        output_names=["scores"],
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path
