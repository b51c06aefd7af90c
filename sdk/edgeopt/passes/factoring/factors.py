"""Low-rank forms of one layer's weight: what they have in common, and singular values for matrices.

Sources: Denton, Zaremba, Bruna, LeCun, Fergus: Exploiting Linear Structure Within Convolutional Networks, 2014, §3.2;
the weighting by what the inputs are is that of Chen, Yu, Dhillon, Hsieh: DRONE: Data-aware Low-rank Compression for
Large NLP Models, 2021, theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ranks = tuple[int, ...]

_LEAST_MOMENT = 1e-4
"""Inputs that calibration never saw count as much as this share of the mean: they may come yet."""


@dataclass(frozen=True)
class Stage:
    """One of the layers, in order, that replace a layer.

    Attributes:
        weight: [out, in / groups, *kernel].
        axes: Spatial axes along which it strides, pads and dilates as the layer did.
        groups: Of the convolution.
    """

    weight: Array
    axes: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True)
class Geometry:
    """How often a layer's weight is used in one inference.

    Attributes:
        rows: Vectors that a linear layer is applied to; 1 for a convolution.
        before: Spatial sizes of the input.
        after: Spatial sizes of the output.
    """

    rows: int = 1
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def uses(self, done: int) -> int:
        """Positions at which a weight is used when the first `done` axes have their final size."""
        return self.rows * math.prod(self.after[:done]) * math.prod(self.before[done:])


ONCE = Geometry()
"""Counts parameters instead of multiplications."""


@dataclass(frozen=True)
class Whitening:
    """The square root of the second moment of a layer's inputs, and its inverse; both [in, in]."""

    root: Array
    inverse: Array

    @classmethod
    def of(cls, moment: Array) -> Whitening:
        """From the mean of x xᵀ; directions that never occur keep a small weight."""
        values, vectors = np.linalg.eigh(moment.astype(np.float64))
        values = np.sqrt(np.maximum(values, max(_LEAST_MOMENT * float(values.mean()), 1e-12)))
        return cls((vectors * values) @ vectors.T, (vectors / values) @ vectors.T)


class Factoring(Protocol):
    """A way to write one weight [out, in, *kernel] as a product of smaller ones."""

    @property
    def full(self) -> int:
        """The largest rank that can be asked."""
        ...

    def at_rank(self, rank: int) -> Ranks:
        """`rank` for each dimension that has one."""
        ...

    def at_ratio(self, ratio: float) -> Ranks:
        """A share of the full rank for each dimension, at least 1."""
        ...

    def at_energy(self, energy: float) -> Ranks:
        """The smallest ranks that keep this share of the squared singular values."""
        ...

    def menu(self) -> Iterator[Ranks]:
        """Ranks worth a look, least first."""
        ...

    def error(self, ranks: Ranks) -> float:
        """Share of the squared (weighted) values that is lost; 0 to 1. An upper bound where several ranks cut."""
        ...

    def cost(self, ranks: Ranks, geometry: Geometry) -> int:
        """Multiply-accumulates of the stages; parameters where the geometry is `ONCE`."""
        ...

    def stages(self, ranks: Ranks) -> tuple[Stage, ...]:
        """The smaller weights, in float32."""
        ...


def kept(values: Array) -> Array:
    """Share of the sum that the first 1, 2, ... hold."""
    return np.cumsum(values) / max(float(values.sum()), 1e-30)


def rank_for(values: Array, energy: float) -> int:
    """The smallest rank that keeps a share of the squared singular values."""
    return min(len(values), int(np.searchsorted(kept(values), energy - 1e-9)) + 1)


def spectrum(weight: Array, mode: int) -> Array:
    """Squared singular values of an unfolding, largest first."""
    flat = np.moveaxis(weight, mode, 0).reshape(weight.shape[mode], -1).astype(np.float64)
    return np.maximum(np.linalg.eigvalsh(flat @ flat.T)[::-1], 0.0)


def along_inputs(weight: Array, matrix: Array | None) -> Array:
    """`weight` [out, in, ...] times `matrix` [in, in] along the inputs."""
    if matrix is None:
        return weight.astype(np.float64)
    return np.moveaxis(np.tensordot(weight.astype(np.float64), matrix, axes=(1, 0)), -1, 1)


@dataclass(frozen=True, eq=False)
class WeightFactoring:
    """What all ways have in common.

    Attributes:
        weight: [out, in, *kernel].
        whitening: What the inputs are, or ``None``: all inputs count alike.
        seed: Of the first guess.
    """

    weight: Array
    whitening: Whitening | None = None
    seed: int = 0

    @cached_property
    def seen(self) -> Array:
        """The weight as the data sees it."""
        return along_inputs(self.weight, self.whitening.root if self.whitening else None)

    def unseen(self, factor: Array) -> Array:
        """A factor [rank, in, ...] of `seen` as one of the weight."""
        return along_inputs(factor, self.whitening.inverse if self.whitening else None)

    def stage(self, weight: Array, axes: tuple[int, ...] = (), groups: int = 1) -> Stage:
        """A stage whose kernel is padded with ones to the layer's number of axes."""
        shape = weight.shape + (1,) * (self.weight.ndim - weight.ndim)
        return Stage(np.ascontiguousarray(weight.reshape(shape), dtype=np.float32), axes, groups)

    @property
    def axes(self) -> tuple[int, ...]:
        """All spatial axes."""
        return tuple(range(self.weight.ndim - 2))


class Svd(WeightFactoring):
    """A matrix, or a convolution of kernel 1, as two; ranks (r,)."""

    @property
    def full(self) -> int:
        """The smaller of outputs and inputs."""
        return min(self.weight.shape[:2])

    @cached_property
    def _parts(self) -> Any:
        return np.linalg.svd(self.seen.reshape(self.weight.shape[:2]), full_matrices=False)

    def at_rank(self, rank: int) -> Ranks:
        """See `Factoring`."""
        return (rank,)

    def at_ratio(self, ratio: float) -> Ranks:
        """See `Factoring`."""
        return (max(1, math.ceil(ratio * self.full - 1e-9)),)

    def at_energy(self, energy: float) -> Ranks:
        """See `Factoring`."""
        return (rank_for(self._parts[1] ** 2, energy),)

    def menu(self) -> Iterator[Ranks]:
        """See `Factoring`."""
        return ((rank,) for rank in sorted({max(1, self.full * step // 64) for step in range(1, 64)}))

    def error(self, ranks: Ranks) -> float:
        """See `Factoring`; exact (Eckart, Young)."""
        return max(0.0, 1.0 - float(kept(self._parts[1] ** 2)[ranks[0] - 1]))

    def cost(self, ranks: Ranks, geometry: Geometry) -> int:
        """See `Factoring`; a strided convolution strides first."""
        return ranks[0] * sum(self.weight.shape[:2]) * geometry.uses(len(self.axes))

    def stages(self, ranks: Ranks) -> tuple[Stage, ...]:
        """See `Factoring`; the singular values are shared evenly, so that both quantise as well."""
        left, values, right = (part[..., : ranks[0]] for part in (*self._parts[:2], self._parts[2].T))
        root = np.sqrt(values)
        return self.stage(self.unseen((right * root).T), self.axes), self.stage(left * root)
