"""A network that computes with rounded weights and activations while its own weights stay real, for training.

Bengio, Leonard, Courville: Estimating or Propagating Gradients Through Stochastic Neurons, 2013 (straight-through
estimator); Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
2018, §3 (simulated quantisation, ranges of activations by moving averages); Courbariaux, Bengio, David: BinaryConnect,
2015, §2; Li, Zhang, Liu: Ternary Weight Networks, 2016; Rastegari et al.: XNOR-Net, 2016, eq. 6. Own rather than
torch.ao's: its eager observers go away, and it knows neither 2 nor 1 bit nor a recurrent layer; the kernels for
activations are torch's. Grids are those of `quantising.grid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeopt.passes.quantising.grid import Bits, best_scale, top_code
from edgeopt.passes.quantising.torch_weights import PRODUCTS, LayerWeight

ACTIVATION_CODES = 255
AVERAGING = 0.99
"""Share of the old range that a training step keeps (Jacob et al. 2018, §3.1)."""

TYPICAL = 0.1
"""The size of weights that usual learning rates are meant for."""

_ACTIVATIONS = frozenset({torch.relu, nn.functional.relu, nn.functional.relu6, torch.clamp, torch.clip})
_ACTIVATION_METHODS = frozenset({"relu", "clamp", "clip"})
_ACTIVATION_LAYERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)


@dataclass(frozen=True)
class Rounding:
    """How a weight is rounded.

    Attributes:
        weight: Which.
        bits: Of its codes.
        per_channel: One scale for each output channel, else one for all.
        reduced: 7 of 8 bits, as products would saturate.
    """

    weight: LayerWeight
    bits: Bits
    per_channel: bool = True
    reduced: bool = False


class Quantised(nn.Module):  # type: ignore[misc]
    """Wraps a network; `bake` leaves it with rounded weights and nothing else changed.

    Until then the network's own weights and biases are in units of their output channel's mean magnitude. Steps of Adam
    have a length of their own, whatever they step on; in these units a channel of large weights, whose grid is coarse,
    takes as many steps to the next code as one of small weights (batch norms that were folded leave both).

    Args:
        network: Its parameters are trained.
        roundings: What is rounded and how.
        activations: Whether inputs and outputs of layers are rounded to 8 bits.
    """

    def __init__(self, network: nn.Module, roundings: Sequence[Rounding], *, activations: bool) -> None:
        super().__init__()
        self.network = network
        self._roundings = tuple(roundings)
        self._biases = [_bias(network, rounding.weight) for rounding in self._roundings]
        for index, rounding in enumerate(self._roundings):
            weight, bias = rounding.weight.of(network), self._biases[index]
            self.register_buffer(f"share_{index}", _share(rounding, weight))
            self.register_buffer(f"unit_{index}", _unit(rounding.weight, weight))
            with torch.no_grad():
                weight.div_(self.get_buffer(f"unit_{index}"))
                if bias:
                    network.get_parameter(bias).div_(self.get_buffer(f"unit_{index}").flatten())
        self.ranges = nn.ModuleList()
        self._handles: list[Any] = []
        if activations:
            self._watch({rounding.weight.layer for rounding in self._roundings})

    def forward(self, *inputs: Tensor) -> Any:
        """The network's outputs with rounded weights, whose gradients go straight through to the real ones."""
        return torch.func.functional_call(self.network, self._rounded(), inputs)

    def observe(self, batches: Sequence[tuple[Tensor, ...]]) -> None:
        """Take the first ranges of activations from inputs."""
        with torch.no_grad():
            for activation in self.ranges:
                activation.observing = True
            for inputs in batches:
                self(*inputs)
            for activation in self.ranges:
                activation.observing = False

    def bake(self) -> nn.Module:
        """Round the network's own weights for good and take off all else."""
        with torch.no_grad():
            for name, value in self._rounded().items():
                self.network.get_parameter(name).copy_(value)
        for handle in self._handles:
            handle.remove()
        return self.network

    def _rounded(self) -> dict[str, Tensor]:
        found = {}
        for index, rounding in enumerate(self._roundings):
            unit, bias = self.get_buffer(f"unit_{index}"), self._biases[index]
            weight = rounding.weight.of(self.network) * unit
            if bias:
                found[bias] = self.network.get_parameter(bias) * unit.flatten()
            with torch.no_grad():
                rounded = on_grid(weight, rounding, self.get_buffer(f"share_{index}"))
            found[rounding.weight.name] = weight + (rounded - weight).detach()
        return found

    def _watch(self, layers: set[str]) -> None:
        """Round what layers read, and what they give where no activation function follows."""
        for path, layer in self.network.named_modules():
            if path not in layers or not isinstance(layer, PRODUCTS):
                continue
            self.ranges.append(Activation())
            self._handles.append(layer.register_forward_pre_hook(self.ranges[-1].before))
            if not _activated(self.network, path):
                self.ranges.append(Activation())
                self._handles.append(layer.register_forward_hook(self.ranges[-1].after))


class Activation(nn.Module):  # type: ignore[misc]
    """Rounds a tensor to 256 levels of a range that follows what it sees in training (Jacob et al. 2018, eq. 12)."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.observing = False

    def forward(self, x: Tensor) -> Tensor:
        """Round `x`; beyond the range gradients are zero."""
        if self.observing or self.training:
            self._follow(x.detach())
        if self.observing:
            return x
        scale = ((self.high - self.low) / ACTIVATION_CODES).clamp_min(torch.finfo(torch.float32).tiny)
        zero = torch.round(-self.low / scale).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, ACTIVATION_CODES)

    def before(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As a forward pre-hook."""
        return (self(inputs[0]), *inputs[1:])

    def after(self, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """As a forward hook."""
        rounded: Tensor = self(output)
        return rounded

    def _follow(self, x: Tensor) -> None:
        low, high = x.amin().clamp_max(0), x.amax().clamp_min(0)
        if self.observing:
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        else:
            self.low.lerp_(low, 1 - AVERAGING)
            self.high.lerp_(high, 1 - AVERAGING)


def on_grid(weight: Tensor, rounding: Rounding, share: Tensor) -> Tensor:
    """The weight rounded to its grid, as `quantising.grid.nearest` does.

    Args:
        weight: The real weight.
        rounding: How.
        share: Of the range of each channel that 4 bits cover, the rest being cut off.
    """
    axis = rounding.weight.axis
    others = [index for index in range(weight.ndim) if index != axis or not rounding.per_channel]
    magnitude = weight.abs()
    if rounding.bits == 1:
        return torch.where(weight < 0, -1.0, 1.0) * magnitude.mean(others, keepdim=True)
    top = top_code(rounding.bits, reduced=rounding.reduced)
    if rounding.bits == 2:
        kept = magnitude > 0.7 * magnitude.mean(others, keepdim=True)
        scale = (magnitude * kept).sum(others, keepdim=True) / kept.sum(others, keepdim=True).clamp_min(1)
    else:
        scale = share * magnitude.amax(others, keepdim=True) / top
    scale = torch.where(scale > 0, scale, 1.0)
    return torch.clamp(torch.round(weight / scale), -top, top) * scale


def _unit(weight: LayerWeight, values: Tensor) -> Tensor:
    """How large what is trained of each output channel counts as, so that it has a typical weight's size."""
    others = [index for index in range(values.ndim) if index != weight.axis]
    mean = values.detach().abs().mean(others, keepdim=True) / TYPICAL
    return torch.where(mean > 0, mean, 1.0)


def _bias(network: nn.Module, weight: LayerWeight) -> str:
    """The bias's name of a layer with one output for each channel; empty where there is none."""
    layer = network.get_submodule(weight.layer)
    return f"{weight.layer}.bias" if isinstance(layer, PRODUCTS) and layer.bias is not None else ""


def _share(rounding: Rounding, weight: Tensor) -> Tensor:
    """What share of each channel's range loses least at 4 bits; found once, as searching in each step takes long."""
    axis: Any = rounding.weight.axis if rounding.per_channel else ()
    if rounding.bits != 4:
        return torch.ones(())
    values = weight.detach().cpu().numpy()
    others = tuple(index for index in range(values.ndim) if index != axis)
    largest = abs(values).max(axis=others, keepdims=True)
    return torch.from_numpy(best_scale(values, 4, axis) * top_code(4) / largest.clip(1e-30)).clamp(0, 1)


def _activated(network: nn.Module, path: str) -> bool:
    """Whether all that reads a layer's result is one activation function, which runtimes fuse with it."""
    if not isinstance(network, fx.GraphModule):
        return False
    nodes = [node for node in network.graph.nodes if node.op == "call_module" and node.target == path]
    readers = [reader for node in nodes for reader in node.users]
    return len(readers) == 1 and _is_activation(network, readers[0])


def _is_activation(network: nn.Module, node: Any) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(node.target), _ACTIVATION_LAYERS)
    return node.target in (_ACTIVATIONS if node.op == "call_function" else _ACTIVATION_METHODS)
