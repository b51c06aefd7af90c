"""The weights of a torch network's layers, in the order in which the layers run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import fx, nn

from edgeopt.errors import PassError

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
"""Layers that multiply their input by one weight."""
LAYERS = (*PRODUCTS, nn.RNNBase, nn.Embedding)


@dataclass(frozen=True)
class LayerWeight:
    """A weight.

    Attributes:
        name: Path of the parameter.
        layer: Path of its layer.
        axis: Of the output channels: 0 in [outputs, inputs / groups, *kernel], 1 in a transposed convolution.
    """

    name: str
    layer: str
    axis: int = 0

    def of(self, network: nn.Module) -> nn.Parameter:
        """The parameter itself."""
        return network.get_parameter(self.name)


def layer_weights(network: nn.Module) -> tuple[LayerWeight, ...]:
    """Weights of all layers, each shared one once."""
    found: dict[int, LayerWeight] = {}
    for path in _order(network):
        layer = network.get_submodule(path)
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.ndim >= 2 and "weight" in name:
                axis = 1 if isinstance(layer, _TRANSPOSED) else 0
                found.setdefault(id(parameter), LayerWeight(f"{path}.{name}", path, axis))
    return tuple(found.values())


def paths_of(network: nn.Module, nodes: Collection[str]) -> frozenset[str]:
    """Paths of the layers that came from these ONNX nodes."""
    names: dict[str, str] = getattr(network, "layer_names", {})
    return frozenset(path for path, node in names.items() if node in nodes)


def node_names(network: nn.Module, paths: Collection[str]) -> list[str]:
    """ONNX names of layers, for people."""
    names: dict[str, str] = getattr(network, "layer_names", {})
    return [names.get(path, path) for path in paths]


def demand_weights(weights: Sequence[LayerWeight]) -> None:
    """Check that there are any.

    Raises:
        PassError: There are none.
    """
    if not weights:
        raise PassError("the network has no layer with weights that this pass could change.")


def _order(network: nn.Module) -> list[str]:
    """Paths of the layers, by the graph where there is one."""
    layers = [path for path, module in network.named_modules() if isinstance(module, LAYERS)]
    if not isinstance(network, fx.GraphModule):
        return layers
    called = dict.fromkeys(str(node.target) for node in network.graph.nodes if node.op == "call_module")
    # a called module may hold the layer
    return [path for target in called for path in layers if path == target or path.startswith(f"{target}.")]
