"""Transfer learning: freeze a trunk, use its features, take over parameters that fit.

Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks?, 2014: the first layers of a
trained network serve other tasks as they are, the last ones have to be learned anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeopt.errors import PassError
from edgeopt.training.losses import first_output
from edgeopt.training.samples import Samples

_WRAPPERS = ("module.", "_orig_mod.", "model.")
_SHOWN = 5


def layers_of(network: nn.Module) -> tuple[str, ...]:
    """Modules with parameters of their own, in the order of the network's definition."""
    return tuple(name for name, module in network.named_modules() if list(module.parameters(recurse=False)))


def freeze(network: nn.Module, prefixes: Sequence[str], known_as: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Let the parameters of some modules stay as they are, in the trainings to come.

    Args:
        network: Changed in place.
        prefixes: Paths of modules, or their other names: ``stem`` means ``stem`` and all below it.
        known_as: Other names by path, as in the ``layer_names`` of an imported network.

    Returns:
        Names of all parameters that are frozen now.

    Raises:
        PassError: Nothing begins with one of them; lists what there is.
    """
    paths = layers_of(network)
    names = {path: (path, known_as[path]) if known_as and path in known_as else (path,) for path in paths}
    for prefix in prefixes:
        if not any(_below(name, prefix) for path in paths for name in names[path]):
            shown = _listed([names[path][-1] for path in paths])
            raise PassError(f"there is no layer {prefix!r} to freeze.", remedy=f"Layers with weights: {shown}.")
    modules = dict(network.named_modules())
    for path in paths:
        if any(_below(name, prefix) for name in names[path] for prefix in prefixes):
            _freeze(modules[path])
    return _frozen(network)


def freeze_trunk(network: nn.Module, train_last: int) -> tuple[str, ...]:
    """Freeze all but the last layers that have parameters; those of normalisation count with the layer before them.

    Args:
        network: Changed in place.
        train_last: Layers that go on learning, at least 1.

    Returns:
        Names of all parameters that are frozen now.

    Raises:
        PassError: There are no more layers than that.
    """
    layers = layers_of(network)
    modules = dict(network.named_modules())
    heads = [index for index, name in enumerate(layers) if not _is_norm(modules[name])]
    if not 1 <= train_last < len(heads):
        raise PassError(
            f"{train_last} last layers cannot be trained alone: the network has {len(heads)} layers with weights.",
            remedy=f"Give train_last between 1 and {len(heads) - 1}.",
        )
    for name in layers[: heads[-train_last]]:
        _freeze(modules[name])
    return _frozen(network)


def features(network: nn.Module, layer: str, samples: Samples, batch_size: int = 64) -> Iterator[Tensor]:
    """What a layer gives for all samples, batch by batch: inputs for a small network in place of all that follows.

    Args:
        network: Put into evaluation mode.
        layer: Path of the module.
        samples: To run.
        batch_size: Samples at once.

    Yields:
        [samples × rows, ...] of the layer's first output, without gradients.

    Raises:
        PassError: No such module, or the network does not call it.
    """
    modules = dict(network.named_modules())
    if layer not in modules:
        raise PassError(f"there is no layer {layer!r}.", remedy=f"Layers with weights: {_listed(layers_of(network))}.")
    caught: list[Tensor] = []
    hook = modules[layer].register_forward_hook(lambda _, __, output: caught.append(first_output(output).detach()))
    try:
        network.eval()
        for begin in range(0, len(samples), batch_size):
            inputs, _ = samples.batch(np.arange(begin, min(begin + batch_size, len(samples))))
            with torch.no_grad():
                network(*inputs)
            if not caught:
                raise PassError(f"the network does not call its layer {layer!r}.")
            yield caught.pop()
            caught.clear()
    finally:
        hook.remove()


@dataclass(frozen=True)
class Transferred:
    """What a transfer of parameters found.

    Attributes:
        matched: Tensors that were taken over: name and shape agree.
        reshaped: Same name, other shape, so left as they were: ``head.weight [10, 32], not [7, 32]``.
        missing: Tensors of the network that the source does not have.
        unused: Tensors of the source that the network does not have.
    """

    matched: tuple[str, ...]
    reshaped: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """The same in sentences."""
        total = len(self.matched) + len(self.reshaped) + len(self.missing)
        found = [f"{len(self.matched)} of {total} tensors taken over"]
        for names, words in (
            (self.reshaped, "of another shape"),
            (self.missing, "not in the source"),
            (self.unused, "of the source not in the network"),
        ):
            if names:
                found.append(f"{words}: {_listed(names)}")
        return tuple(found)


def transfer(network: nn.Module, source: nn.Module | Mapping[str, Tensor]) -> Transferred:
    """Take over parameters and buffers whose name and shape agree.

    Args:
        network: Changed in place; what does not match stays as it is.
        source: Another network, or a state dict; prefixes that wrappers of networks put before every name are removed.

    Raises:
        PassError: Nothing matches, or the source is no state dict.
    """
    own = network.state_dict()
    given = _unwrapped(source.state_dict() if isinstance(source, nn.Module) else source, own)
    matched = [name for name, tensor in own.items() if name in given and given[name].shape == tensor.shape]
    if not matched:
        raise PassError(
            f"nothing of the source fits: it has {_listed(tuple(given))}, the network {_listed(tuple(own))}.",
            remedy="Names and shapes of tensors must agree.",
        )
    with torch.no_grad():
        for name in matched:
            own[name].copy_(given[name])
    return Transferred(
        matched=tuple(matched),
        reshaped=tuple(
            f"{name} {list(given[name].shape)}, not {list(tensor.shape)}"
            for name, tensor in own.items()
            if name in given and name not in matched
        ),
        missing=tuple(name for name in own if name not in given),
        unused=tuple(name for name in given if name not in own),
    )


def _unwrapped(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    wrong = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if wrong is not None or not state:
        found = "empty" if wrong is None else f"not a tensor at {wrong!r} but a {type(state[wrong]).__name__}"
        raise PassError(f"the source of parameters is {found}.", remedy="Give a network's state_dict().")
    names = dict(state)
    for prefix in _WRAPPERS:
        if not own.keys() & names.keys() and all(name.startswith(prefix) for name in names):
            names = {name[len(prefix) :]: tensor for name, tensor in names.items()}
    return names


def _below(name: str, prefix: str) -> bool:
    stem = prefix.rstrip("./")
    return name == stem or name.startswith((f"{stem}.", f"{stem}/"))


def _freeze(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(False)


def _frozen(network: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, parameter in network.named_parameters() if not parameter.requires_grad)


def _is_norm(module: nn.Module) -> bool:
    kinds = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
    return isinstance(module, kinds)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
