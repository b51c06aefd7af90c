"""Which layer of a student is held against which of its teacher, and how their features are caught."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeopt.errors import PassError

NONE, AUTO = "none", "auto"
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)


@dataclass(frozen=True)
class Layer:
    """A layer that was seen at work.

    Attributes:
        path: Of the submodule.
        name: Of its ONNX node; the path where the network has none.
        shape: Of its output, [N, ...].
        axis: Where its channels are.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    axis: int

    @property
    def place(self) -> tuple[int, ...]:
        """Sizes of the positions, with the axis of channels as -1: what two layers must share to be compared."""
        return tuple(-1 if index == self.axis else size for index, size in enumerate(self.shape))[1:]


@dataclass(frozen=True)
class Pair:
    """Two layers that are compared.

    Attributes:
        student: Path of the submodule.
        teacher: Path of the submodule.
        student_channels: Width.
        teacher_channels: Width.
        axis: Where channels are, of both.
        positions: How many there are.
    """

    student: str
    teacher: str
    student_channels: int
    teacher_channels: int
    axis: int
    positions: int


@contextlib.contextmanager
def captured(network: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Catch the outputs of submodules for the duration of the block, the last one where a module runs repeatedly."""
    caught: dict[str, Tensor] = {}

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            caught[path] = output

        return hook

    handles = [network.get_submodule(path).register_forward_hook(keep(path)) for path in dict.fromkeys(paths)]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def regressor(pair: Pair) -> nn.Module:
    """A 1 × 1 map from the student's width to the teacher's (Romero 2015, eq. 3); nothing where they are equal."""
    if pair.student_channels == pair.teacher_channels:
        return nn.Identity()
    return _Regressor(pair.student_channels, pair.teacher_channels, pair.axis)


class _Regressor(nn.Module):  # type: ignore[misc]
    """A linear map of the channels at every position, wherever their axis is."""

    def __init__(self, width_in: int, width_out: int, axis: int) -> None:
        super().__init__()
        self.linear, self.axis = nn.Linear(width_in, width_out), axis

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.movedim(self.axis, -1)).movedim(-1, self.axis)


def layers_of(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[Layer, ...]:
    """All layers whose output is one real tensor of at least two dimensions, in the order in which they ran."""
    names: Mapping[str, str] = getattr(network, "layer_names", {})
    paths = list(names) or [path for path, module in network.named_modules() if path and not [*module.children()]]
    with torch.no_grad(), captured(network, paths) as outputs:
        network(*inputs)
    return tuple(
        Layer(path, names.get(path, path), tuple(output.shape), _channel_axis(network.get_submodule(path), output))
        for path, output in outputs.items()
        if isinstance(output, Tensor) and output.is_floating_point() and output.dim() > 1
    )


def _channel_axis(module: nn.Module, output: Tensor) -> int:
    """Second where the module or a picture's four dimensions say so, else last (tokens, rows of a table)."""
    return 1 if isinstance(module, _CHANNELS_FIRST) or output.dim() in (2, 4) else output.dim() - 1


def paired(teacher: nn.Module, student: nn.Module, inputs: Sequence[Tensor], *wanted: str) -> tuple[Pair, ...]:
    """Find the layers to compare.

    Args:
        teacher: In evaluation mode.
        student: In evaluation mode.
        inputs: A batch that both run on.
        wanted: ``none``, ``auto`` or names with commas between (``teacher's=student's`` where they differ). ``auto``
            takes, for every size of the feature maps, the last layer of that size that both have by name, else the
            last of each.

    Raises:
        PassError: No such layer, or two with other positions; says which.
    """
    asked = [text for text in wanted if text != NONE]
    if not asked:
        return ()
    theirs, ours = layers_of(teacher, inputs), layers_of(student, inputs)
    found: list[Pair] = []
    for text in asked:
        found += _automatic(theirs, ours) if text == AUTO else _named(theirs, ours, text)
    return tuple(dict.fromkeys(found))


def _automatic(theirs: Sequence[Layer], ours: Sequence[Layer]) -> list[Pair]:
    by_name = {layer.name: layer for layer in ours}
    common = [(layer, by_name[layer.name]) for layer in theirs[:-1] if layer.name in by_name]
    last = {layer.place: (layer, own) for layer, own in common if layer.place == own.place}
    if not last:
        own_last = {layer.place: layer for layer in ours[:-1]}
        their_last = {layer.place: layer for layer in theirs[:-1]}
        last = {place: (layer, own_last[place]) for place, layer in their_last.items() if place in own_last}
    if not last:
        raise PassError(
            "teacher and student have no layers with feature maps of one size.",
            remedy="Name layers, or leave features and attention out.",
        )
    return [_pair(layer, own) for layer, own in last.values()]


def _named(theirs: Sequence[Layer], ours: Sequence[Layer], text: str) -> list[Pair]:
    pairs = []
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        teacher, _, student = entry.partition("=")
        layers = _layer(theirs, teacher, "teacher"), _layer(ours, student or teacher, "student")
        if layers[0].place != layers[1].place:
            shapes = " and ".join(f"{layer.name} {list(layer.shape)}" for layer in layers)
            raise PassError(
                f"features cannot be compared: {shapes}, of teacher and student, differ in their positions."
            )
        pairs.append(_pair(*layers))
    return pairs


def _layer(layers: Sequence[Layer], name: str, whose: str) -> Layer:
    for layer in layers:
        if name in (layer.name, layer.path):
            return layer
    known = ", ".join(layer.name for layer in layers[:12]) + (", …" if len(layers) > 12 else "")
    raise PassError(f"the {whose} has no layer {name!r}.", remedy=f"It has: {known}.")


def _pair(teacher: Layer, student: Layer) -> Pair:
    axis, sizes = teacher.axis, teacher.place
    positions = 1
    for size in sizes:
        positions *= max(size, 1)
    return Pair(student.path, teacher.path, student.shape[axis], teacher.shape[axis], axis, positions)
