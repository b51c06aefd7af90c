"""What narrowing each group of channels alone costs at a network's outputs (runs in a child process)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgeopt.graph.layer_models import LayerSpec
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.pruning.channels import Dependencies, Group, Trial, outputs, silence
from edgeopt.passes.pruning.importance import Evidence, score
from edgeopt.passes.pruning.subject import BATCH, data_of, layer_names

SHARES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Widths that are tried, of a group's channels."""

_JUDGED = 64


def width_errors(source: str, calibration: str, work: str, importance: str, round_to: int, seed: int) -> dict[str, Any]:
    """Errors by group and width, and the geometry of every layer concerned; arguments and result are JSON.

    Args:
        source: ONNX file.
        calibration: Sample file with typical inputs.
        work: Folder for intermediate files.
        importance: As in `prune_channels`.
        round_to: Widths are multiples, where the group is wide enough.
        seed: Of random choices.

    Returns:
        ``groups`` (fields of `edgeopt.selection.netadapt.Group`) and ``layers`` (`LayerSpec` by layer name).

    Raises:
        PassError: The samples do not fit.
        ModelError: The network cannot be imported.
    """
    torch.set_num_threads(min(2, torch.get_num_threads()))
    network: Any = import_onnx(Path(source))
    data = data_of(PassContext(work=Path(work), calibration=Path(calibration), seed=seed), network.input_names)
    inputs = data.inputs(network)
    trial, graph, names = Trial(network, inputs), Dependencies(network, inputs), layer_names(network)
    groups = [group for group in graph.groups() if trial.refusal(group.root) is None]
    batch = BATCH if len(inputs[0]) > data.typical.rows else 1
    scores = score(importance, groups, Evidence(network, data.judged, data.loss, seed, batch))  # type: ignore[arg-type]
    judged = [data.typical.batch([index])[0] for index in range(min(_JUDGED, len(data.typical)))]
    expected = [outputs(network, one) for one in judged]
    paths = {module: path for path, module in network.named_modules()}
    found = []
    for group, values in zip(groups, scores, strict=True):
        order = torch.argsort(values, stable=True).tolist()
        errors = {group.units * group.repeat: 0.0}
        for units in _widths(group, round_to):
            errors[units * group.repeat] = _error(network, group, order[: group.units - units], judged, expected)
        found.append(
            {
                "name": names[group.root],
                "channels": group.units * group.repeat,
                "outputs": _taken(group, "out", paths, names),
                "inputs": _taken(group, "in", paths, names),
                "errors": errors,
            }
        )
    return {"groups": found, "layers": _layers(network, data.typical.batch([0])[0], names)}


def _taken(group: Group, side: str, paths: dict[nn.Module, str], names: dict[str, str]) -> dict[str, int]:
    """Layers of one side with the number of their channels that are the group's."""
    found: dict[str, int] = {}
    for member in group.members:
        if member.side == side:
            name = names[paths[member.module]]
            found[name] = found.get(name, 0) + len(member.channels)
    return found


def _widths(group: Group, round_to: int) -> list[int]:
    """Units at the tried shares, whole multiples where the group is wide enough."""
    step = max(1, round_to // group.repeat)
    rounded = {max(1, round(share * group.units / step) * step) for share in SHARES}
    return sorted(units for units in rounded if units < group.units)


def _error(
    network: nn.Module,
    group: Group,
    units: Sequence[int],
    judged: Sequence[tuple[Tensor, ...]],
    expected: Sequence[list[Tensor]],
) -> float:
    """Mean squared difference of the outputs over their mean square, with some units set to zero."""
    saved = {name: value.clone() for name, value in network.state_dict().items()}
    silence(group, units)
    lost = total = 0.0
    for inputs, wanted in zip(judged, expected, strict=True):
        for one, other in zip(outputs(network, inputs), wanted, strict=True):
            if other.is_floating_point():
                lost += float((one - other).square().sum())
                total += float(other.square().sum())
    network.load_state_dict(saved)
    return lost / max(total, 1e-12)


def _layers(network: nn.Module, inputs: tuple[Tensor, ...], names: dict[str, str]) -> dict[str, Any]:
    """Geometry of convolutions and linear layers for one sample."""
    found: dict[str, Any] = {}

    def note(module: Any, given: tuple[Tensor, ...]) -> None:
        found.setdefault(names[paths[module]], asdict(_spec(module, tuple(given[0].shape))))

    paths = {module: path for path, module in network.named_modules() if isinstance(module, (_ConvNd, nn.Linear))}
    hooks = [module.register_forward_pre_hook(note) for module in paths]
    outputs(network, inputs)
    for hook in hooks:
        hook.remove()
    return found


def _spec(module: Any, shape: tuple[int, ...]) -> LayerSpec:
    if isinstance(module, nn.Linear):
        return LayerSpec("linear", module.in_features, module.out_features, shape)
    padding = module.padding if not isinstance(module.padding, str) else [size // 2 for size in module.kernel_size]
    return LayerSpec(
        "conv",
        module.in_channels,
        module.out_channels,
        shape,
        module.groups,
        tuple(module.kernel_size),
        tuple(module.stride),
        tuple(padding),
        tuple(module.dilation),
    )
