"""Low-rank layers: a weight is replaced by a product of smaller ones.

Sources: singular values for linear layers and convolutions of kernel 1 (Denton et al., 2014, §3.2), Tucker-2 (Kim et
al., 2016, eq. 3-6) or canonical polyadic form (Lebedev et al., 2015, eq. 3-7) for other convolutions; see
`factoring.factors`. The greedy division of a budget is our own; `energy` is the rule of Denton et al. and Kim et al.
use variational Bayes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext, PassReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeopt.passes.factoring.factors import Factoring
    from edgeopt.passes.factoring.low_rank import Layer, Observed
    from edgeopt.passes.factoring.ranks import Candidate, Chosen

DEFAULT_BUDGET = 0.5


@dataclass(frozen=True)
class Options:
    """Options of `factorise`. At most one of `budget`, `energy`, `rank_ratio`, `rank` is given.

    Attributes:
        budget: Share of the cost of all layers with weights that may stay, divided among them so that least is lost;
            0.5 where none of the four is given.
        energy: Share of the squared singular values that each layer keeps.
        rank_ratio: Share of the full rank that each layer keeps.
        rank: Rank of each layer; above a layer's full rank it is refused.
        cost: What `budget` counts, and what must become less for a layer to be changed.
        convolution: How convolutions with a kernel above 1 are written: ``tucker`` as three, ``cp`` as one for each
            axis between two of kernel 1 (cheaper, loses more, takes minutes to compute on large layers).
        weighting: ``inputs`` loses least on what the layer really sees (calibration data); ``none`` needs no data.
        samples: Calibration samples used for that.
        layers: Names of the only layers to change; all by default.
    """

    budget: float | None = None
    energy: float | None = None
    rank_ratio: float | None = None
    rank: int | None = None
    cost: Literal["macs", "parameters"] = "macs"
    convolution: Literal["tucker", "cp"] = "tucker"
    weighting: Literal["inputs", "none"] = "inputs"
    samples: int = 64
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rules = {name: getattr(self, name) for name in ("budget", "energy", "rank_ratio", "rank")}
        given = {name: value for name, value in rules.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given, only one can be")
        for name, value in given.items():
            if name != "rank" and not 0 < value <= 1:
                raise ValueError(f"{name} is {value}, must be above 0 and at most 1")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank is {self.rank}, must be at least 1")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")


class Factorise:
    """Writes layers as products of smaller ones, fewer multiplications each: SVD for linear layers, Tucker or CP for
    convolutions. Helps wide layers and large kernels, best with `fine_tune` or `distil` after it; loses time on narrow
    or depthwise networks, where three small layers are slower than one.
    """

    name: ClassVar[str] = "factorise"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: bool = True
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.needs_calibration = options.weighting == "inputs"

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with its layers factorised.

        Raises:
            PassError: No calibration data, no layer that can be factorised or that gains by it, a rank above the full
                rank, a budget that nothing meets, or an unknown layer in `layers` or `keep_float`.
        """
        import onnx

        from edgeopt.passes.factoring.low_rank import find_layers, observe
        from edgeopt.passes.factoring.low_rank_graph import replace_layers
        from edgeopt.passes.graphs.questions import save_sorted

        weighted = self.options.weighting == "inputs"
        if weighted and context.calibration is None:
            raise PassError("it has no calibration samples.", remedy="Give --calib, or weighting: none.")
        model = onnx.load(source)
        layers = find_layers(model)
        self._demand_names(model, layers, context)
        seen = observe(
            model, layers, context.calibration, limit=self.options.samples, work=context.work, moments=weighted
        )
        candidates = self._candidates(layers, seen, context.seed)
        chosen = self._choose(layers, candidates, seen)
        if not chosen.ranks:
            raise PassError(f"no layer was factorised: {_sentence(layers, chosen.skipped)}")
        stages = {c.name: c.factoring.stages(chosen.ranks[c.name]) for c in candidates if c.name in chosen.ranks}
        replace_layers(model, stages, layers)
        save_sorted(model, destination)
        return PassReport(notes=self._notes(layers, candidates, chosen, seen))

    def _demand_names(self, model: Any, layers: Sequence[Layer], context: PassContext) -> None:
        """Layers kept in float are float as a product too: their names are checked, the stages' names are known."""
        from edgeopt.passes.factoring.low_rank import without_stage
        from edgeopt.passes.graphs.questions import demand_nodes

        if not layers:
            raise PassError("the network has no layer with constant weights.")
        demand_nodes(model, map(without_stage, context.keep_float))
        unknown = sorted(set(self.options.layers) - {layer.name for layer in layers})
        if unknown:
            raise PassError(
                f"layers names {unknown[0]!r}, which is no layer with constant weights.",
                remedy=f"Layers: {', '.join(layer.name for layer in layers)}.",
            )

    def _excluded(self, layer: Layer) -> str:
        if self.options.layers and layer.name not in self.options.layers:
            return "not in `layers`"
        return layer.reason

    def _geometry(self, seen: Observed) -> Any:
        from edgeopt.passes.factoring.factors import ONCE

        return seen.geometry if self.options.cost == "macs" else ONCE

    def _candidates(self, layers: Sequence[Layer], seen: Mapping[str, Observed], seed: int) -> list[Candidate]:
        from edgeopt.passes.factoring.ranks import Candidate

        found = []
        for layer in layers:
            if self._excluded(layer):
                continue
            geometry = self._geometry(seen[layer.name])
            whole = layer.weight.size * geometry.uses(len(geometry.after))
            found.append(Candidate(layer.name, self._factoring(layer, seen[layer.name], seed), geometry, whole))
        return found

    def _factoring(self, layer: Layer, seen: Observed, seed: int) -> Factoring:
        from edgeopt.passes.factoring.factors import Svd, Whitening
        from edgeopt.passes.factoring.tensor_factors import Cp, Tucker

        whitening = None if seen.moment is None else Whitening.of(seen.moment)
        if max(layer.weight.shape[2:], default=1) == 1:
            return Svd(layer.weight, whitening, seed)
        if find_spec("tensorly") is None:
            raise PassError(
                f"{layer.name} is a convolution, which needs tensorly to factorise; it is not installed.",
                remedy="Run: pip install 'edgeopt[torch]', or name other layers in `layers`.",
            )
        return (Tucker if self.options.convolution == "tucker" else Cp)(layer.weight, whitening, seed)

    def _choose(self, layers: Sequence[Layer], candidates: list[Candidate], seen: Mapping[str, Observed]) -> Chosen:
        from edgeopt.passes.factoring.ranks import Chosen, by_budget, by_layer

        options = self.options
        if options.energy is options.rank_ratio is options.rank is None:
            fixed = self._total(layers, seen) - sum(candidate.whole for candidate in candidates)
            chosen = by_budget(candidates, fixed, options.budget or DEFAULT_BUDGET)
        else:
            chosen = by_layer(candidates, options.energy, options.rank_ratio, options.rank)
        excluded = {layer.name: reason for layer in layers if (reason := self._excluded(layer))}
        return Chosen(chosen.ranks, {**excluded, **chosen.skipped})

    def _total(self, layers: Sequence[Layer], seen: Mapping[str, Observed]) -> int:
        total = 0
        for layer in layers:
            geometry = self._geometry(seen[layer.name])
            total += (layer.weight.size + layer.other) * geometry.uses(len(geometry.after))
        return total

    def _notes(
        self, layers: Sequence[Layer], candidates: Sequence[Candidate], chosen: Chosen, seen: Mapping[str, Observed]
    ) -> tuple[str, ...]:
        total = self._total(layers, seen)
        saved = sum(c.whole - c.cost(chosen.ranks[c.name]) for c in candidates if c.name in chosen.ranks)
        unit = "multiplications" if self.options.cost == "macs" else "weights"
        ranks = ", ".join(f"{name} (rank {'x'.join(map(str, rank))})" for name, rank in chosen.ranks.items())
        count = f"{len(chosen.ranks)} of {len(layers)} layers"
        notes = [f"factorise: {total:,} {unit} became {total - saved:,}; {count}: {ranks}"]
        if chosen.skipped:
            notes.append(_sentence(layers, chosen.skipped))
        return tuple(notes)


def _sentence(layers: Sequence[Layer], skipped: Mapping[str, str]) -> str:
    from edgeopt.passes.graphs.layers import skips

    return skips(dict(skipped), len(layers))[0]
