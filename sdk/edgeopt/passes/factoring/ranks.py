"""Which rank each layer gets: by what is kept of its weight, by a share of the full rank, or by a budget for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeopt.errors import PassError
from edgeopt.passes.factoring.factors import Factoring, Geometry, Ranks


@dataclass(frozen=True)
class Candidate:
    """A layer that may be factorised.

    Attributes:
        name: Of the layer.
        factoring: How.
        geometry: How often its weight is used; counts parameters where it is `ONCE`.
        whole: Cost as it is.
    """

    name: str
    factoring: Factoring
    geometry: Geometry
    whole: int

    def cost(self, ranks: Ranks) -> int:
        """Cost of its stages."""
        return self.factoring.cost(ranks, self.geometry)


@dataclass(frozen=True)
class Chosen:
    """Ranks by layer name, and why the others stay whole."""

    ranks: Mapping[str, Ranks]
    skipped: Mapping[str, str]


def by_layer(candidates: Sequence[Candidate], energy: float | None, ratio: float | None, rank: int | None) -> Chosen:
    """The same rule for each layer; one of `energy`, `ratio`, `rank` is given.

    Raises:
        PassError: The rank is above a layer's full rank.
    """
    ranks, skipped = {}, {}
    for candidate in candidates:
        chosen = _ranks(candidate, energy, ratio, rank)
        if candidate.cost(chosen) < candidate.whole:
            ranks[candidate.name] = chosen
        else:
            skipped[candidate.name] = f"rank {_named(chosen)} saves nothing"
    return Chosen(ranks, skipped)


def _ranks(candidate: Candidate, energy: float | None, ratio: float | None, rank: int | None) -> Ranks:
    factoring = candidate.factoring
    if energy is not None:
        return factoring.at_energy(energy)
    if ratio is not None:
        return factoring.at_ratio(ratio)
    assert rank is not None
    if rank > factoring.full:
        raise PassError(
            f"rank {rank} is above the full rank {factoring.full} of {candidate.name}.",
            remedy="Ask for a smaller rank, or name in `layers` those that it is meant for.",
        )
    return factoring.at_rank(rank)


def _named(ranks: Ranks) -> str:
    return "x".join(map(str, ranks))


@dataclass(frozen=True)
class _Step:
    """A cheaper form of a layer: what it costs, and what of the weight is lost."""

    name: str
    ranks: Ranks
    cost: int
    error: float


def by_budget(candidates: Sequence[Candidate], fixed: int, budget: float) -> Chosen:
    """Cut where least is lost for what is saved, one layer a step, until the whole network keeps its share.

    A layer's next form is the one with the least error for each unit of cost saved, which walks the lower convex hull
    of its forms; the last step may save more than was asked.

    Args:
        candidates: The layers.
        fixed: Cost of all layers that cannot be cut.
        budget: Share of the cost of all layers that may stay.

    Raises:
        PassError: Cutting all layers to the least rank is not enough; says what can be had.
    """
    total = fixed + sum(candidate.whole for candidate in candidates)
    forms = {candidate.name: _forms(candidate) for candidate in candidates}
    now = {candidate.name: _Step(candidate.name, (), candidate.whole, 0.0) for candidate in candidates}
    while fixed + sum(step.cost for step in now.values()) > budget * total:
        offers = [step for name, before in now.items() if (step := _best(before, forms[name])) is not None]
        if not offers:
            least = (fixed + sum(step.cost for step in now.values())) / max(1, total)
            raise PassError(
                f"the budget {budget:g} cannot be met: with the least rank everywhere {least:.3g} of the cost stays.",
                remedy="Ask for more, or name another method.",
            )
        taken = min(offers, key=lambda step: (_price(now[step.name], step), step.name))
        now[taken.name] = taken
    ranks = {name: step.ranks for name, step in now.items() if step.ranks}
    return Chosen(ranks, {name: "the budget holds without" for name, step in now.items() if not step.ranks})


def _forms(candidate: Candidate) -> list[_Step]:
    every = [(ranks, candidate.cost(ranks)) for ranks in candidate.factoring.menu()]
    return [
        _Step(candidate.name, ranks, cost, candidate.factoring.error(ranks))
        for ranks, cost in every
        if cost < candidate.whole
    ]


def _best(before: _Step, forms: Sequence[_Step]) -> _Step | None:
    cheaper = [form for form in forms if form.cost < before.cost]
    return min(cheaper, key=lambda form: (_price(before, form), form.cost), default=None)


def _price(before: _Step, after: _Step) -> float:
    """Error for each unit of cost that the step saves."""
    saved = before.cost - after.cost
    return (after.error - before.error) / saved if saved else math.inf
