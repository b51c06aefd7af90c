"""Chooses for each weight of a model how it is stored, and replaces it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeopt.passes.graphs.weights import Weight, constant_weights
from edgeopt.passes.quantising.grid import Bits, Grid, exact, nearest, smallest
from edgeopt.passes.quantising.packing import MOST_LEVELS, Packer

_LEVELS: dict[int, tuple[int, ...]] = {1: (-1, 1), 2: (-1, 0, 1), 4: tuple(range(-7, 8))}
_FEW = 16
"""Most values of an integer weight: with more, a byte holds one, which is what it takes already."""


class Storing:
    """Packs the weights of a model.

    Args:
        model: Changed in place.
        bits: Of all weights, or ``auto``.
        otherwise: With ``auto``, of weights on no grid; 0 leaves them.
        at_run: Bits of codes that are left to DequantizeLinear; others are unpacked as the file is loaded.

    Attributes:
        stored: How many weights are stored in which way.
        left: Nodes whose weights stayed, as they would not get smaller.
    """

    def __init__(
        self, model: Any, bits: Bits | Literal["auto"], otherwise: Bits | Literal[0], at_run: Collection[int] = ()
    ) -> None:
        self._model, self._bits, self._otherwise, self._at_run = model, bits, otherwise, at_run
        self._packer = Packer(model)
        self.stored: Counter[str] = Counter()
        self.left: list[str] = []

    def pack(self, keep: Collection[str]) -> None:
        """Pack all weights but those that nodes in `keep` read."""
        from onnx import numpy_helper

        tensors = {tensor.name: tensor for tensor in self._model.graph.initializer}
        for weight in constant_weights(self._model, keep):
            way = self._float(weight, numpy_helper.to_array(tensors[weight.name]))
            if way:
                self.stored[way] += 1
            else:
                self.left.append(weight.node)
        for tensor in tensors.values():
            if tensor.data_type in (2, 3) and len(tensor.dims) >= 2 and self._integers(tensor):
                self.stored["8-bit weights of few values"] += 1

    def _float(self, weight: Weight, values: NDArray[np.float32]) -> str:
        """Store a float weight; in which way, or nothing where it stays."""
        if self._bits != "auto":
            known = exact(values, self._bits, weight.axes)
            return self._grid(weight, known or nearest(values, self._bits, weight.axes))
        grid = smallest(values, weight.axes)
        if grid is None and self._listed(weight.name, values, MOST_LEVELS):
            return "a list of values"
        if grid is None and self._otherwise:
            return self._grid(weight, nearest(values, self._otherwise, weight.axes))
        return self._grid(weight, grid) if grid else ""

    def _grid(self, weight: Weight, grid: Grid) -> str:
        if grid.bits in self._at_run and grid.scale.size == grid.codes.shape[weight.axes[-1]]:
            done = self._packer.bytes(weight.name, _narrow(grid), grid.scale, axis=weight.axes[-1])
        elif grid.bits == 8:
            done = self._packer.bytes(weight.name, grid.codes, grid.scale)
        else:
            levels = np.array(_LEVELS[grid.bits], np.float32)
            digits = np.searchsorted(levels, grid.codes).astype(np.uint8)
            done = self._packer.levels(weight.name, digits, levels, grid.scale)
            # in tiny layers the nodes that unpack take more than what packing saves
            done = done or self._packer.bytes(weight.name, grid.codes, grid.scale)
        return f"{grid.bits} bits" if done else ""

    def _integers(self, tensor: Any) -> bool:
        from onnx import numpy_helper

        return not tensor.name.startswith("unpack") and self._listed(tensor.name, numpy_helper.to_array(tensor), _FEW)

    def _listed(self, name: str, weight: NDArray[Any], most: int) -> bool:
        """Store a weight of at most `most` different values as places in their list."""
        values, places = np.unique(weight, return_inverse=True)
        if not 2 <= len(values) <= most:
            return False
        return self._packer.levels(name, places.reshape(weight.shape).astype(np.uint8), values)


def _narrow(grid: Grid) -> NDArray[Any]:
    if grid.bits == 8:
        return grid.codes
    from ml_dtypes import int4

    return grid.codes.astype(int4)
