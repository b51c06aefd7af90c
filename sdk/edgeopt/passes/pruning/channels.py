"""Groups of channels that go together, found by Torch-Pruning's dependency graph and proved by a trial.

Fang, Ma, Song, Bi Mi, Wang: DepGraph: Towards Any Structural Pruning, 2023, §3. The graph takes every operation that it
does not know for an element-wise one, so each group is tried on a copy first: the network must still run, and must give
what it gives when the same channels are set to zero where they are read.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

TOLERANCE = 1e-3
"""Largest difference between removed and zeroed channels, as a share of the largest output."""

MIXING = (nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention)
"""Layers whose result changes when a channel goes, also one that is zero."""

RECURRENT = (nn.RNNBase,)


@dataclass(frozen=True)
class Member:
    """What a group takes from one layer.

    Attributes:
        module: The layer.
        side: Whether it writes the channels, reads them, or scales them where they are (normalisation).
        channels: [n] its channels, in its own numbering.
        units: [n] the group's unit that each belongs to.
    """

    module: nn.Module
    side: Literal["out", "in", "scale"]
    channels: Tensor
    units: Tensor


@dataclass(frozen=True)
class Group:
    """Channels of several layers that go together.

    Attributes:
        root: Path of the layer that the group starts from.
        layers: Paths of the layers that write these channels.
        members: All layers concerned.
        units: How many can be chosen among; each stands for `repeat` channels of the root.
        repeat: Channels that go with one unit: the groups of a grouped convolution must stay equally wide.
    """

    root: str
    layers: tuple[str, ...]
    members: tuple[Member, ...]
    units: int
    repeat: int


class Dependencies:
    """The dependency graph of a network that is about to be pruned."""

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        import torch_pruning

        self.network = network
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            self._graph: Any = torch_pruning.DependencyGraph().build_dependency(network, inputs, verbose=False)
        self._paths = {module: path for path, module in network.named_modules()}
        self._types = (_ConvNd, nn.Linear)

    def groups(self) -> Iterator[Group]:
        """All groups that start from a convolution or a linear layer, each once, in the order of the graph."""
        for found in self._graph.get_all_groups(root_module_types=self._types):
            yield self._group(found)

    def group(self, root: str) -> Group:
        """The group that starts from a layer."""
        module = self.network.get_submodule(root)
        return self._group(self._found(module, range(_width(module))))

    def remove(self, group: Group, units: Sequence[int]) -> None:
        """Remove units, from the network itself."""
        module = self.network.get_submodule(group.root)
        size = _width(module) // group.repeat
        self._found(module, [unit + part * size for part in range(group.repeat) for unit in units]).prune()

    def _found(self, module: nn.Module, channels: Sequence[int]) -> Any:
        pruner = self._graph.get_pruner_of_module(module)
        return self._graph.get_pruning_group(module, pruner.prune_out_channels, list(channels))

    def _group(self, found: Any) -> Group:
        root = found[0].dep.target.module
        repeat = _repeat([item.dep.target.module for item in found.items], _width(root))
        size = _width(root) // repeat
        members = []
        for item in found.items:
            module, handler = item.dep.target.module, item.dep.handler
            if module not in self._paths or any(index is None for index in item.root_idxs):
                continue
            side = self._side(module, handler)
            units = torch.tensor(item.root_idxs) % size
            members.append(Member(module, side, torch.tensor(item.idxs), units))
        layers = tuple(self._paths[member.module] for member in members if member.side == "out")
        return Group(self._paths[root], layers, tuple(members), size, repeat)

    def _side(self, module: nn.Module, handler: Any) -> Literal["out", "in", "scale"]:
        if not isinstance(module, (_ConvNd, nn.Linear, nn.Embedding, *RECURRENT)):
            return "scale"
        return "out" if self._graph.is_out_channel_pruning_fn(handler) else "in"


def _width(module: Any) -> int:
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)


def _repeat(modules: Sequence[Any], width: int) -> int:
    """The number of equal parts that the channels of a group come in; 1 nearly always."""
    parts = {1}
    for module in modules:
        if isinstance(module, nn.GroupNorm):
            parts.add(module.num_groups)
        elif isinstance(module, _ConvNd) and module.groups < max(module.in_channels, module.out_channels):
            parts.add(module.groups)
    repeat = math.lcm(*parts)
    return repeat if width % repeat == 0 else width


class Trial:
    """Removes every other channel from a copy, group by group, and says which removals the network bears."""

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._network, self._inputs = network, inputs
        self._shapes = [output.shape for output in outputs(network, inputs)]
        self._begin()

    def refusal(self, root: str) -> str | None:
        """Why the group that starts from `root` must stay whole; empty where its channels are an output of the network.

        ``None``: it can be pruned.
        """
        group = self._graph.group(root)
        if group.units < 2:
            return "one channel"
        if any(isinstance(member.module, RECURRENT) and member.side == "out" for member in group.members):
            return "a recurrent layer's state"
        reason = self._tried(group)
        if reason is not None:
            self._begin()
        return reason

    def _begin(self) -> None:
        self._copy = copy.deepcopy(self._network)
        self._graph = Dependencies(self._copy, self._inputs)

    def _tried(self, group: Group) -> str | None:
        units = range(1, group.units, 2)
        exact = not any(isinstance(member.module, MIXING) for member in group.members)
        silence(group, units)
        expected = outputs(self._copy, self._inputs)
        try:
            self._graph.remove(group, units)
            found = outputs(self._copy, self._inputs)
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
            return " ".join(str(error).split())[:80]
        if [output.shape for output in found] != self._shapes:
            return ""
        if not all(bool(torch.isfinite(output).all()) for output in found):
            return "the result is not finite"
        if exact and not all(close(one, other) for one, other in zip(found, expected, strict=True)):
            return "its channels are mixed further on"
        return None


def prunable(
    network: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[Group]
) -> tuple[list[str], dict[str, str]]:
    """Roots of the groups that can be pruned, and why the layers of others cannot; outputs are in neither."""
    trial, roots = Trial(network, inputs), []
    refused: dict[str, str] = {}
    for group in groups:
        reason = trial.refusal(group.root)
        if reason is None:
            roots.append(group.root)
        elif reason:
            refused |= dict.fromkeys(group.layers, reason)
    return roots, refused


def silence(group: Group, units: Sequence[int]) -> None:
    """Set the weights to zero that read the units; these weights are about to be removed."""
    chosen = torch.tensor(list(units))
    for member in group.members:
        if member.side != "in":
            continue
        channels = member.channels[torch.isin(member.units, chosen)]
        module: Any = member.module
        if isinstance(module, _ConvNd) and module.groups > 1:
            size = module.in_channels // module.groups
            parts = module.weight.data.view(module.groups, -1, size, *module.weight.shape[2:])
            parts[channels // size, :, channels % size] = 0
        else:
            for weights in readers(member):
                weights.data[channels] = 0


def readers(member: Member, gradient: bool = False) -> list[Tensor]:
    """The weights (or their gradients) that read a layer's input channels, as [channels in, n...].

    Views, but for a grouped convolution's.
    """
    module: Any = member.module
    if isinstance(module, RECURRENT):
        named = [value for name, value in module.named_parameters() if name.startswith("weight_ih_l0")]
        return [_pick(value, gradient).transpose(0, 1) for value in named]
    weight = _pick(module.weight, gradient)
    if isinstance(module, _ConvTransposeNd):
        return [weight]
    if isinstance(module, _ConvNd) and module.groups > 1:
        parts = weight.reshape(module.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return [parts.reshape(module.in_channels, -1)]
    return [weight.transpose(0, 1)]


def writers(member: Member, gradient: bool = False) -> list[Tensor]:
    """The weights (or their gradients) that write or scale a layer's channels, as [channels, n...]; may be empty."""
    module: Any = member.module
    weight = getattr(module, "weight", None)
    if not isinstance(module, (_ConvNd, nn.Linear, nn.LayerNorm, nn.GroupNorm, _BatchNorm)) or weight is None:
        return []
    weight = _pick(weight, gradient)
    if isinstance(module, _ConvTransposeNd):
        parts = weight.reshape(module.groups, -1, *weight.shape[1:]).transpose(1, 2)
        return [parts.reshape(module.out_channels, -1)]
    return [weight.reshape(-1, 1) if isinstance(module, (nn.LayerNorm, nn.GroupNorm, _BatchNorm)) else weight]


def _pick(parameter: Tensor, gradient: bool) -> Tensor:
    if not gradient:
        return parameter
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def outputs(network: Callable[..., Any], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All outputs of a forward pass without gradients."""
    with torch.no_grad():
        made = network(*inputs)
    return list(made) if isinstance(made, (tuple, list)) else [made]


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs are the same within `TOLERANCE`."""
    if not one.is_floating_point():
        return bool(torch.equal(one, other))
    return float((one - other).abs().max()) <= TOLERANCE * max(float(other.abs().max()), 1e-6)
