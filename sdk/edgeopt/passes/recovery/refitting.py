"""Refits the layers of a changed network, one after the other, to what the original's layers put out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeopt.passes.recovery.kept_channels import kept_by_outputs, kept_by_weights
from edgeopt.passes.recovery.least_squares import (
    FITTED,
    NormalEquations,
    add_to_layer,
    columns_of,
    groups_of,
    input_rows,
    output_rows,
    positions_of,
)
from edgeopt.training.samples import Samples

LARGEST_SYSTEM = 8192
"""Columns over which the sums of a layer would take more than half a GiB."""


@dataclass(frozen=True)
class Refitting:
    """How to refit.

    Attributes:
        ridge: See `NormalEquations.change`.
        positions: Most positions of a sample's feature map that count.
        deadline: `time.monotonic` after which no further layer is begun.
        seed: Of the choice of positions.
        batch_size: Samples that run at once.
    """

    ridge: float
    positions: int
    deadline: float
    seed: int
    batch_size: int = 16


@dataclass(frozen=True)
class Refitted:
    """What became of the layers.

    Attributes:
        layers: Names of those that were refitted.
        skipped: Why others were not, by name.
    """

    layers: tuple[str, ...]
    skipped: Mapping[str, str]


def refit(original: nn.Module, network: nn.Module, samples: Samples, how: Refitting) -> Refitted:
    """Refit every layer of `network` that the original has by name, in the order in which they run.

    Each is fitted on the inputs that the layers before it, refitted already, give it.

    Args:
        original: What is to be computed, in evaluation mode.
        network: Changed in place, in evaluation mode.
        samples: Inputs.
        how: Bounds.
    """
    theirs = {name: path for path, name in names_of(original).items()}
    refitted: list[str] = []
    skipped: dict[str, str] = {}
    for path, name in _running_order(network, samples):
        try:
            if time.monotonic() > how.deadline:
                raise _Skip("no time left")
            if name not in theirs:
                raise _Skip("the original has no layer of this name")
            _Refit(original, network, (theirs[name], path), samples, how).run()
            refitted.append(name)
        except _Skip as reason:
            skipped[name] = str(reason)
    return Refitted(tuple(refitted), skipped)


def names_of(network: nn.Module) -> dict[str, str]:
    """Names of a network's layers by path: of their ONNX nodes where they have some, else the paths."""
    names: Mapping[str, str] = getattr(network, "layer_names", {})
    return dict(names) or {path: path for path, _ in network.named_modules() if path}


class _Skip(Exception):
    """Why a layer is left as it is."""


@dataclass
class _Call:
    inputs: Tensor
    output: Tensor


@contextlib.contextmanager
def _recorded(network: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, list[_Call]]]:
    """Every call of some submodules during the block, by path, in the order in which they first ran."""
    calls: dict[str, list[_Call]] = {}

    def record(path: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.setdefault(path, []).append(_Call(inputs[0], output))

        return hook

    handles = [network.get_submodule(path).register_forward_hook(record(path)) for path in paths]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _running_order(network: nn.Module, samples: Samples) -> list[tuple[str, str]]:
    """Paths and names of all layers with a matrix of weights, in the order in which they first run."""
    names = names_of(network)
    layers = [path for path in names if any(x.dim() > 1 for x in network.get_submodule(path).parameters())]
    with torch.no_grad(), _recorded(network, layers) as calls:
        network(*samples.batch([0])[0])
    return [(path, names[path]) for path in calls]


class _Refit:
    """One layer: first which of the original's channels it has kept, then the least squares."""

    def __init__(
        self, original: nn.Module, network: nn.Module, paths: tuple[str, str], samples: Samples, how: Refitting
    ) -> None:
        self.networks, self.paths = (original, network), paths
        self.samples, self.how = samples, how
        self.original, self.layer = (net.get_submodule(path) for net, path in zip(self.networks, paths, strict=True))
        self._check()

    def _check(self) -> None:
        if not isinstance(self.layer, FITTED) or type(self.layer) is not type(self.original):
            raise _Skip(f"{type(self.layer).__name__} is not fitted")
        if (
            isinstance(getattr(self.layer, "padding", 0), str)
            or getattr(self.layer, "padding_mode", "zeros") != "zeros"
        ):
            raise _Skip("its padding is not of numbers of zeros")
        if columns_of(self.layer) > LARGEST_SYSTEM:
            raise _Skip(f"{columns_of(self.layer)} inputs are more than the {LARGEST_SYSTEM} that memory is given for")
        if len(self.layer.weight) > len(self.original.weight):
            raise _Skip("it has more outputs than the original's")

    def run(self) -> None:
        kept = kept_by_weights(self.original.weight, self.layer.weight) or self._kept_by_outputs()
        outputs = len(self.layer.weight) // groups_of(self.layer)
        equations = NormalEquations(groups_of(self.layer), columns_of(self.layer), outputs)
        for places, wanted, call in self._batches():
            lacking = wanted.index_select(self._axis, torch.tensor(kept)) - call.output
            equations.add(input_rows(self.layer, call.inputs, places), output_rows(self.layer, lacking, places))
        makes_bias = not isinstance(self.layer, nn.Linear)  # of a convolution it costs nothing, of a MatMul a node
        try:
            change = equations.change(self.how.ridge, bias=makes_bias or self.layer.bias is not None)
        except torch.linalg.LinAlgError as error:
            raise _Skip("its inputs or outputs are not finite, or all zero") from error
        add_to_layer(self.layer, change)

    def _kept_by_outputs(self) -> list[int]:
        def rows() -> Iterator[tuple[Tensor, Tensor]]:
            for places, wanted, call in self._batches():
                yield self._rows(wanted, places), self._rows(call.output, places)

        kept = kept_by_outputs(rows())
        if kept is None:
            raise _Skip("nothing tells which of its channels were kept")
        return kept

    @property
    def _axis(self) -> int:
        return -1 if isinstance(self.layer, nn.Linear) else 1

    def _rows(self, outputs: Tensor, places: Tensor) -> Tensor:
        return outputs.movedim(self._axis, -1).flatten(1, -2)[:, places].flatten(0, 1)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, _Call]]:
        """Positions that count, the original's output, and the call of the layer, batch by batch."""
        generator = torch.Generator().manual_seed(self.how.seed)
        for at in range(0, len(self.samples), self.how.batch_size):
            inputs = self.samples.batch(range(at, min(at + self.how.batch_size, len(self.samples))))[0]
            theirs, ours = (self._call(net, path, inputs) for net, path in zip(self.networks, self.paths, strict=True))
            if self._places(theirs.output) != self._places(ours.output):
                raise _Skip("its feature maps have another size than the original's")
            positions = positions_of(self.layer, ours.output)
            yield torch.randperm(positions, generator=generator)[: self.how.positions], theirs.output, ours

    def _places(self, output: Tensor) -> list[int]:
        return list(output.movedim(self._axis, -1).shape[:-1])

    def _call(self, network: nn.Module, path: str, inputs: tuple[Tensor, ...]) -> _Call:
        with torch.no_grad(), _recorded(network, [path]) as calls:
            network(*inputs)
        if len(calls[path]) != 1:
            raise _Skip("it is used more than once")
        return calls[path][0]
