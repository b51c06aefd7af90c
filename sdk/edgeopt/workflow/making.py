"""Makes variants and judges them here; of those that lose too much, the best of each family gets layers back in float.

A family is recipes that differ in calibration alone: they give the same layers, so recovering one of them is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.child import Progress
from edgeopt.core.device import DeviceFacts
from edgeopt.core.model import Artifact
from edgeopt.core.recipe import BASELINE, PassSpec, Recipe
from edgeopt.core.variant import Provenance, Rejection, Variant
from edgeopt.errors import ChildError, ParityError, PassError
from edgeopt.passes.make import Made, MakeContext
from edgeopt.passes.recover import keep_ranking
from edgeopt.passes.registry import pass_class
from edgeopt.passes.tools import tool_versions
from edgeopt.store.keys import variant_key
from edgeopt.workflow.counting import counted
from edgeopt.workflow.executors._base import Order, Promise, Repair
from edgeopt.workflow.executors.here import context_of
from edgeopt.workflow.preparing import Prepared
from edgeopt.workflow.request import Request
from edgeopt.workflow.workspace import Workspace

_HOPELESS = 5.0
"""A variant that loses this many times the budget on the host is not worth the board's time."""

_LEAST_DROP = 0.001
_CALIBRATION = frozenset({"calibrator", "percentile"})


@dataclass(frozen=True)
class Judged:
    """What a recipe made, and its metric on the host.

    Attributes:
        recipe: What was done.
        made: The file; ``None`` where its outputs were wrong and recovery may yet put them right.
        value: The metric; minus infinity where there is no file.
        notes: What recovery had to say.
    """

    recipe: Recipe
    made: Made | None
    value: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maker:
    """What every recipe of one run needs.

    Attributes:
        request, prepared, facts, workspace: What to make, of what, for what, and where it is kept.
        trainable: The network with nothing folded; ``None`` takes the source.
        on_progress: Hears how far a pass is.
    """

    request: Request
    prepared: Prepared
    facts: DeviceFacts
    workspace: Workspace
    trainable: Path | None = None
    on_progress: Progress | None = None

    @property
    def context(self) -> MakeContext:
        """Data, device and folders for the passes."""
        return context_of(self._order(BASELINE), self.on_progress)

    @property
    def calibrated(self) -> bool:
        """Whether there are samples to calibrate on: the user's, or random ones that the user allowed."""
        return not self.prepared.summary.generated or self.request.data.random

    @property
    def source(self) -> Path:
        """The unmodified network."""
        return self.path(self.prepared.model.artifact)

    def path(self, artifact: Artifact) -> Path:
        """Where a file of `prepared` is."""
        return self.workspace.artifacts.path(artifact)

    def judge(self, recipe: Recipe) -> Variant | Rejection | Judged:
        """Make a recipe as it is, or take it from the ledger where the very same was made and its file is there."""
        return self.judging(recipe)()

    def judging(self, recipe: Recipe) -> Callable[[], Variant | Rejection | Judged]:
        """Have the executor begin with that; what is returned waits for it."""
        known = self.workspace.ledger.variant(self._key(recipe))
        if isinstance(known, Variant) and self.workspace.artifacts.has(known.artifact.digest):
            return lambda: known
        promise = self.workspace.executor.submit(self._order(recipe), self.on_progress)
        return lambda: self._judged(recipe, promise)

    def _judged(self, recipe: Recipe, promise: Promise) -> Rejection | Judged:
        try:
            answer = promise.result()
            return Judged(recipe, answer.made, answer.value)
        except ParityError as error:
            if self.request.budget.max_drop is not None and recipe.recover:
                return Judged(recipe, None, -math.inf)
            return Rejection(recipe.name, "parity", str(error))
        except (PassError, ChildError) as error:
            return Rejection(recipe.name, "pass", str(error))

    def misses(self, judged: Judged) -> bool:
        """Whether it loses more than the budget and its recipe may get layers back."""
        limit = self.request.budget.max_drop
        return limit is not None and judged.recipe.recover and self.prepared.baseline - judged.value > limit

    def recovering(self, judged: Judged) -> Callable[[], Judged | Rejection]:
        """Have the executor give the layers that lose most back to float until the budget holds; waits for it."""
        limit, value = self.request.budget.max_drop, None if judged.made is None else judged.value
        assert limit is not None
        repair = Repair(self.prepared.baseline, limit, judged.made, value)
        promise = self.workspace.executor.submit(replace(self._order(judged.recipe), repair=repair))
        return lambda: self._recovered(judged, promise)

    def _recovered(self, judged: Judged, promise: Promise) -> Judged | Rejection:
        try:
            answer = promise.result()
            keep_ranking(self.source, judged.recipe, self.context, answer.ranking)
        except (PassError, ChildError) as error:
            return Rejection(judged.recipe.name, "pass", str(error))
        return replace(judged, made=answer.made, value=answer.value, notes=answer.notes)

    def finished(self, judged: Judged) -> Variant | Rejection:
        """The variant, kept in the ledger; or why it is hopeless."""
        limit, made = self.request.budget.max_drop, judged.made
        assert made is not None
        if limit is not None and self.prepared.baseline - judged.value > _HOPELESS * max(limit, _LEAST_DROP):
            reason = f"{self.loss(judged)} (budget {limit * 100:g})"
            return Rejection(judged.recipe.name, "host_accuracy", reason)
        variant = Variant(
            name=judged.recipe.name,
            artifact=self.workspace.artifacts.add(made.path, made.format),
            provenance=self._provenance(judged.recipe),
            metric=judged.value,
            cosine=made.parity.cosine,
            kept_float=made.kept_float,
            notes=(*made.notes, *judged.notes),
            work=counted(judged.recipe, made, self.source),
        )
        self.workspace.ledger.remember_variant(self._key(judged.recipe), variant)
        return variant

    def loss(self, judged: Judged) -> str:
        """What it loses here, in words."""
        if judged.made is None:
            return "has wrong outputs"
        points = (self.prepared.baseline - judged.value) * 100
        return f"loses {points:.1f} points of {self.prepared.summary.metric} on the host"

    def _order(self, recipe: Recipe) -> Order:
        return Order(
            recipe=recipe,
            files=self._files(),
            cache=self.workspace.cache_folder("passes"),
            metric=self.prepared.summary.metric,
            machine=self.facts.machine,
            isa=self.facts.isa,
            seed=self.request.seed,
            loss=self.request.data.loss or "",
        )

    def _files(self) -> Mapping[str, Path]:
        """What passes may need, by role."""
        prepared = self.prepared
        named = {"source": prepared.model.artifact, "golden": prepared.golden, "evaluation": prepared.evaluation}
        named |= {"calibration": prepared.calibration} if self.calibrated else {}
        named |= {"training": prepared.training} if prepared.training else {}
        files = {role: self.path(artifact) for role, artifact in named.items()}
        return files | ({"trainable": self.trainable} if self.trainable else {})

    def _key(self, recipe: Recipe) -> str:
        max_drop = self.request.budget.max_drop
        return variant_key(self._provenance(recipe), isa=self.facts.isa, max_drop=max_drop)

    def _provenance(self, recipe: Recipe) -> Provenance:
        prepared, seed = self.prepared, self.request.seed
        training = prepared.summary.training_digest if trains(recipe) else ""
        data = prepared.summary.digest
        return Provenance(prepared.model.artifact.digest, recipe, data, tool_versions(), seed, training)


def trains(recipe: Recipe) -> bool:
    """Whether one of its passes trains."""
    return any(pass_class(spec.name).trains for spec in recipe.passes)


def settle(
    maker: Maker, recipes: Sequence[Recipe], outcomes: Sequence[Variant | Rejection | Judged]
) -> list[Variant | Rejection]:
    """Turn what was judged into variants: within the budget as it is, the best of a family that misses it recovered.

    Args:
        maker: What made them.
        recipes: The recipe of each outcome.
        outcomes: Variants, rejections, and what was judged.
    """
    families = [_family(recipe) for recipe in recipes]
    settling: list[Callable[[], Variant | Rejection]] = []
    for family, outcome in zip(families, outcomes, strict=True):
        members = [other for key, other in zip(families, outcomes, strict=True) if key == family]
        settling.append(_settling(maker, outcome, members))
    return [settled() for settled in settling]


def _settling(
    maker: Maker, outcome: Variant | Rejection | Judged, members: Sequence[Variant | Rejection | Judged]
) -> Callable[[], Variant | Rejection]:
    """Begin with what is left to do for an outcome; what is returned waits for it."""
    if not isinstance(outcome, Judged):
        return lambda: outcome
    if not maker.misses(outcome):
        return lambda: maker.finished(outcome)
    best = _best(maker, members)
    if best is not outcome:
        return lambda: _told(maker, outcome, best)
    recovering = maker.recovering(outcome)

    def settled() -> Variant | Rejection:
        recovered = recovering()
        return recovered if isinstance(recovered, Rejection) else maker.finished(recovered)

    return settled


def _family(recipe: Recipe) -> tuple[PassSpec, ...]:
    """The passes without what only says how ranges are cut."""
    return tuple(
        replace(spec, options={name: value for name, value in spec.options.items() if name not in _CALIBRATION})
        for spec in recipe.passes
    )


def _best(maker: Maker, members: Sequence[Variant | Rejection | Judged]) -> Variant | Judged:
    """The first that holds the budget, else the one that loses least."""
    usable = [member for member in members if not isinstance(member, Rejection)]
    holding = [member for member in usable if isinstance(member, Variant) or not maker.misses(member)]
    missing = [member for member in usable if isinstance(member, Judged)]
    return holding[0] if holding else max(missing, key=lambda member: member.value)


def _told(maker: Maker, judged: Judged, best: Variant | Judged) -> Rejection:
    name = best.name if isinstance(best, Variant) else best.recipe.name
    reason = f"{maker.loss(judged)}; {name}, which differs in calibration alone, loses no more"
    return Rejection(judged.recipe.name, "host_accuracy", reason)
