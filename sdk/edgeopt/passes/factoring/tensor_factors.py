"""Low-rank forms of a convolution's weight: Tucker-2 and canonical polyadic.

Sources: Kim, Park, Yoo, Choi, Yang, Shin: Compression of Deep Convolutional Neural Networks for Fast and Low Power
Mobile Applications, 2016, eq. 3-6 (Tucker-2); Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky: Speeding-up Convolutional
Neural Networks Using Fine-tuned CP-Decomposition, 2015, eq. 3-7.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import product

import numpy as np

from edgeopt.passes.factoring.factors import (
    Array,
    Geometry,
    Ranks,
    Stage,
    WeightFactoring,
    along_inputs,
    kept,
    rank_for,
    spectrum,
)

_STEPS = 12
"""Ranks offered for each dimension of a convolution's weight."""
_CP_STEPS = 6
_ITERATIONS = 60


class Tucker(WeightFactoring):
    """A convolution as 1x1, a small convolution, 1x1; ranks (inputs, outputs); a full rank needs no 1x1."""

    @property
    def full(self) -> int:
        """The larger of outputs and inputs."""
        return max(self.weight.shape[:2])

    @cached_property
    def _spectra(self) -> tuple[Array, Array]:
        return spectrum(self.seen, 1), spectrum(self.seen, 0)

    def _both(self, ranks: Iterable[int]) -> Ranks:
        return tuple(min(rank, size) for rank, size in zip(ranks, self.weight.shape[1::-1], strict=True))

    def at_rank(self, rank: int) -> Ranks:
        """See `Factoring`."""
        return self._both((rank, rank))

    def at_ratio(self, ratio: float) -> Ranks:
        """See `Factoring`."""
        out, inner = self.weight.shape[:2]
        return self._both(max(1, math.ceil(ratio * size - 1e-9)) for size in (inner, out))

    def at_energy(self, energy: float) -> Ranks:
        """See `Factoring`."""
        return tuple(rank_for(values, energy) for values in self._spectra)

    def menu(self) -> Iterator[Ranks]:
        """See `Factoring`."""
        out, inner = self.weight.shape[:2]
        choices = [sorted({max(1, size * step // _STEPS) for step in range(1, _STEPS + 1)}) for size in (inner, out)]
        return product(*choices)

    def error(self, ranks: Ranks) -> float:
        """See `Factoring`; the sum over both cuts (De Lathauwer, De Moor, Vandewalle, 2000, property 10)."""
        lost = (1.0 - float(kept(values)[rank - 1]) for values, rank in zip(self._spectra, ranks, strict=True))
        return min(1.0, max(0.0, sum(lost)))

    def cost(self, ranks: Ranks, geometry: Geometry) -> int:
        """See `Factoring`."""
        out, inner = self.weight.shape[:2]
        first, last = ranks
        after = geometry.uses(len(self.axes))
        before = inner * first * geometry.uses(0) if first < inner else 0
        kernel = first * last * math.prod(self.weight.shape[2:]) * after
        return before + kernel + (last * out * after if last < out else 0)

    def stages(self, ranks: Ranks) -> tuple[Stage, ...]:
        """See `Factoring`."""
        from tensorly.decomposition import partial_tucker

        (core, (outer, inner)), _ = partial_tucker(
            self.seen, rank=[ranks[1], ranks[0]], modes=[0, 1], n_iter_max=_ITERATIONS, random_state=self.seed
        )
        found = []
        if ranks[0] < self.weight.shape[1]:
            found.append(self.stage(self.unseen(inner.T)))
        else:
            core = self.unseen(along_inputs(core, inner.T))
        if ranks[1] < self.weight.shape[0]:
            return *found, self.stage(core, self.axes), self.stage(outer)
        return *found, self.stage(np.tensordot(outer, core, axes=(1, 0)), self.axes)


class Cp(WeightFactoring):
    """A convolution as 1x1, one depthwise convolution an axis, 1x1; ranks (r,)."""

    @cached_property
    def _known(self) -> dict[Ranks, list[Array]]:
        return {}

    @property
    def full(self) -> int:
        """A rank that is always enough: all dimensions but the largest multiplied."""
        return math.prod(self.weight.shape) // max(self.weight.shape)

    def at_rank(self, rank: int) -> Ranks:
        """See `Factoring`."""
        return (rank,)

    def at_ratio(self, ratio: float) -> Ranks:
        """See `Factoring`."""
        return (max(1, math.ceil(ratio * self.full - 1e-9)),)

    def at_energy(self, energy: float) -> Ranks:
        """See `Factoring`; the full rank where none on the menu is enough."""
        enough = (ranks for ranks in self.menu() if 1.0 - self.error(ranks) >= energy)
        return next(enough, (self.full,))

    def menu(self) -> Iterator[Ranks]:
        """See `Factoring`; up to where parameters are no longer saved."""
        most = math.prod(self.weight.shape) / sum(self.weight.shape)
        return ((rank,) for rank in sorted({max(1, int(most * 2.0**-step)) for step in range(_CP_STEPS)}))

    def _factors(self, ranks: Ranks) -> list[Array]:
        """Factors [dimension, rank] of equal norm; computed once, as it takes long."""
        from tensorly.decomposition import parafac

        if ranks not in self._known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a kernel is smaller than the rank: the rest of the guess is random
                found = parafac(self.seen, ranks[0], n_iter_max=_ITERATIONS, tol=1e-6, random_state=self.seed)
            norms = [np.maximum(np.linalg.norm(factor, axis=0), 1e-20) for factor in found.factors]
            even = np.prod(norms, axis=0) ** (1.0 / len(norms))
            scaled = [factor * even / norm for factor, norm in zip(found.factors, norms, strict=True)]
            self._known[ranks] = [scaled[0] * found.weights, *scaled[1:]]
        return self._known[ranks]

    def error(self, ranks: Ranks) -> float:
        """See `Factoring`; of the decomposition itself."""
        import tensorly

        rebuilt = tensorly.cp_to_tensor((None, self._factors(ranks)))
        lost = np.linalg.norm(self.seen - rebuilt) ** 2 / max(float(np.linalg.norm(self.seen) ** 2), 1e-30)
        return min(1.0, float(lost))

    def cost(self, ranks: Ranks, geometry: Geometry) -> int:
        """See `Factoring`."""
        out, inner, *kernel = self.weight.shape
        spatial = sum(size * geometry.uses(axis + 1) for axis, size in enumerate(kernel))
        return ranks[0] * (inner * geometry.uses(0) + spatial + out * geometry.uses(len(kernel)))

    def stages(self, ranks: Ranks) -> tuple[Stage, ...]:
        """See `Factoring`."""
        outer, inner, *kernels = self._factors(ranks)
        found = [self.stage(self.unseen(inner.T))]
        for axis, kernel in enumerate(kernels):
            shape = [ranks[0], 1, *(kernel.shape[0] if axis == other else 1 for other in self.axes)]
            found.append(self.stage(kernel.T.reshape(shape), (axis,), ranks[0]))
        return (*found, self.stage(outer))
