"""State of a training on disk, replaced atomically, so that one that was killed goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeopt.training.options import TrainingOptions

_FORMAT = 1
States = dict[str, Tensor]


@dataclass
class Progressed:
    """How far a training is.

    Attributes:
        epoch: The epoch that runs, from 0.
        batch: Batches of it that are done.
        step: Steps that are done in all.
        seconds: Time spent.
        loss_sum: Of the samples of this epoch so far.
        losses: Mean training loss of each whole epoch.
        validation: Validation loss before the training, then of each epoch.
        best: Best validation loss, of those that count.
        best_epoch: Epochs after which it was reached; -1: none counts yet.
        rate: Learning rate of the last step.
        notes: For the user.
        finished: Whether it ended by itself; one that ran out of time did not.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: float = float("inf")
    best_epoch: int = -1
    rate: float = 0.0
    notes: list[str] = field(default_factory=list)
    finished: bool = False


def key_of(modules: list[nn.Module], options: TrainingOptions, seed: int, count: int) -> str:
    """What a checkpoint must agree on to be gone on from: weights at the start, options, seed and number of samples."""
    digest = hashlib.sha256(repr((replace(options, max_seconds=1.0), seed, count)).encode())
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        digest.update(repr([name for name, tensor in module.named_parameters() if tensor.requires_grad]).encode())
    return digest.hexdigest()


def save(path: Path, key: str, progressed: Progressed, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before stays whole until the new one is on disk."""
    partial = path.with_name(f"{path.name}.part")
    with open(partial, "wb") as stream:
        torch.save({"format": _FORMAT, "key": key, "progressed": asdict(progressed), "state": state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def load(path: Path, key: str) -> tuple[Progressed, dict[str, Any]] | None:
    """Read a checkpoint; ``None`` where there is none, it is damaged, or it belongs to another training."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        if document["format"] != _FORMAT or document["key"] != key:
            return None
        return Progressed(**document["progressed"]), document["state"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        return None


def copied(module: nn.Module) -> States:
    """A copy of a module's state."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
