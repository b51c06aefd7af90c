"""The eight architectures by which runtimes and other tools are compared, with made weights and made samples.

Each function gives (network, example inputs), as `edgeopt deploy benchmarks/suite.py:residual` wants it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

import detector
import networks
import numpy as np
import torch

from support import architectures
from support.architectures import Built

NAMES = ("residual", "depthwise", "efficientnet", "vit", "encoder", "lstm", "gru", "yolo")
SAMPLES = 128


def residual() -> Built:
    """ResNet-18, 3×224×224 → 1000."""
    return networks.resnet18(), {"input": architectures.pictures(1, 3, 224)}


def depthwise() -> Built:
    """MobileNetV2, 3×224×224 → 1000."""
    return networks.mobilenet_v2(), {"input": architectures.pictures(1, 3, 224)}


def efficientnet() -> Built:
    """EfficientNet-B0, 3×224×224 → 1000."""
    return architectures.efficientnet()


def vit() -> Built:
    """ViT-tiny of patches of 16, 3×224×224 → 100."""
    return architectures.vit()


def encoder() -> Built:
    """A transformer encoder of four layers over 64 tokens → 10."""
    return architectures.encoder()


def lstm() -> Built:
    """Two layers of LSTM over 50 frames → 12."""
    return architectures.lstm()


def gru() -> Built:
    """Two layers of GRU over 50 frames → 12."""
    return architectures.gru()


def yolo() -> Built:
    """A detector, 3×256×256 → boxes and scores."""
    torch.manual_seed(0)
    return architectures.settled(detector.Detector(), {"image": architectures.pictures(8, 3, detector.SIZE)})


def model_of(name: str) -> str:
    """A network as edgeopt is told of it."""
    return f"{Path(__file__)}:{name}"


def samples_of(name: str, folder: Path) -> Path:
    """File with `SAMPLES` inputs of a network, which is written where it is not there."""
    path = folder / f"{name}-{SAMPLES}.npz"
    if not path.exists():
        _, inputs = globals()[name]()
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npz")
        np.savez(partial, **architectures.samples_of(inputs, SAMPLES))
        partial.replace(path)
    return path
