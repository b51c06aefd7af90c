"""Networks taken from ONNX into torch: the same outputs as ONNX Runtime's, inputs drawn, names of a file's nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edgeopt.graph.session import open_session


def demand_parity(path: Path, network: nn.Module, *inputs: Any, tolerance: float = 2e-5) -> None:
    session = open_session(path)
    names = [value.name for value in session.get_inputs()]
    expected = session.run(None, dict(zip(names, inputs, strict=True)))
    with torch.no_grad():
        found = network(*(torch.from_numpy(value) for value in inputs))
    found = [found] if isinstance(found, torch.Tensor) else found
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.numpy().shape == theirs.shape
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-4, atol=tolerance * max(1, abs(theirs).max()))


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def names_of(path: Path) -> list[str]:
    return [node.name for node in onnx.load(path).graph.node]
