"""Least squares for the weights of a layer, from sums that are as large as the layer whatever the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FITTED = (nn.Conv1d, nn.Conv2d, nn.Linear)


class NormalEquations:
    """Sums over rows of data of XᵀX and XᵀR, for every group of a layer by itself.

    The unknown is a change D of the weights, [groups, columns + 1, outputs], with the bias as the last row. It has the
    least ‖R - X·D‖² + ridge·‖D‖², where R is what the layer lacks now: few data leave the weights as they are.

    Args:
        groups: Independent systems.
        columns: Inputs of a group.
        outputs: Outputs of a group.
    """

    def __init__(self, groups: int, columns: int, outputs: int) -> None:
        self.square = torch.zeros(groups, columns + 1, columns + 1, dtype=torch.float64)
        self.cross = torch.zeros(groups, columns + 1, outputs, dtype=torch.float64)
        self.lack = 0.0

    def add(self, rows: Tensor, lacking: Tensor) -> None:
        """Count more data.

        Args:
            rows: Inputs [groups, n, columns].
            lacking: Wanted minus present outputs [groups, n, outputs].
        """
        ones = torch.ones(*rows.shape[:2], 1)
        extended, lacking = torch.cat([rows, ones], 2).double(), lacking.double()
        self.square += extended.transpose(1, 2) @ extended
        self.cross += extended.transpose(1, 2) @ lacking
        self.lack += float(lacking.square().sum())

    def change(self, ridge: float, *, bias: bool) -> Tensor:
        """Solve for the change.

        Args:
            ridge: In parts of the mean of the inputs' mean squares.
            bias: Whether there is one to change; its row is zero otherwise.

        Raises:
            torch.linalg.LinAlgError: Not finite, or singular although there is a ridge.
        """
        size = self.square.shape[1] if bias else self.square.shape[1] - 1
        square, cross = self.square[:, :size, :size], self.cross[:, :size]
        inputs = square.diagonal(dim1=1, dim2=2)[:, : self.square.shape[1] - 1]
        weight = ridge * inputs.mean(1).clamp_min(1e-12)
        penalty = weight[:, None, None] * torch.eye(size, dtype=torch.float64)
        solved = torch.cholesky_solve(cross, torch.linalg.cholesky(square + penalty))
        if not bool(torch.isfinite(solved).all()):
            raise torch.linalg.LinAlgError("the solution is not finite")
        return solved if bias else functional.pad(solved, (0, 0, 0, 1))


def groups_of(layer: nn.Module) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return int(getattr(layer, "groups", 1))


def columns_of(layer: nn.Module) -> int:
    """Inputs that one output of a layer reads."""
    return int(layer.weight[0].numel())


def input_rows(layer: nn.Module, inputs: Tensor, places: Tensor) -> Tensor:
    """What a layer reads at some of its output's positions, [groups, samples × places, columns].

    Args:
        layer: One of `FITTED`.
        inputs: As it gets them.
        places: Indices of positions in its flattened output.
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])[:, places].flatten(0, 1)[None]
    patches = torch.cat([_patches(layer, one[None])[:, :, places] for one in inputs])
    grouped = patches.unflatten(1, (groups_of(layer), -1))
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


def _patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """[1, columns of all groups, positions]; a sample at a time, as patches are many times the picture."""
    geometry = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    if isinstance(layer, nn.Conv1d):
        inputs = inputs[:, :, None]
        geometry = {name: (0 if name == "padding" else 1, *value) for name, value in geometry.items()}
    return functional.unfold(inputs, **geometry)


def output_rows(layer: nn.Module, outputs: Tensor, places: Tensor) -> Tensor:
    """Outputs at some positions, [groups, samples × places, outputs of a group]."""
    if isinstance(layer, nn.Linear):
        return outputs.reshape(len(outputs), -1, outputs.shape[-1])[:, places].flatten(0, 1)[None]
    chosen = outputs.flatten(2)[:, :, places].unflatten(1, (groups_of(layer), -1))
    return chosen.permute(1, 0, 3, 2).flatten(1, 2)


def positions_of(layer: nn.Module, outputs: Tensor) -> int:
    """Positions in a sample's output."""
    if isinstance(layer, nn.Linear):
        return int(outputs[0].numel() // outputs.shape[-1])
    return int(outputs[0, 0].numel())


def add_to_layer(layer: nn.Module, change: Tensor) -> None:
    """Change a layer's weights and bias by what `NormalEquations.change` gave; makes a bias where there is none."""
    weights, bias = change[:, :-1], change[:, -1].reshape(-1)
    with torch.no_grad():
        layer.weight += weights.transpose(1, 2).reshape(layer.weight.shape).to(layer.weight.dtype)
        if layer.bias is not None:
            layer.bias += bias.to(layer.bias.dtype)
        elif bool(bias.any()):
            layer.bias = nn.Parameter(bias.to(layer.weight.dtype))
