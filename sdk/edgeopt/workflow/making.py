"""Makes variants and judges them here; of those that lose too much, the best of each family gets layers back in float.

A family is recipes that differ in calibration alone: they give the same layers, so recovering one of them is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.child import Progress
from edgeopt.core.device import DeviceFacts
from edgeopt.core.model import Artifact
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.core.variant import Provenance, Rejection, Variant
from edgeopt.errors import ChildError, ParityError, PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes.make import Made, MakeContext, make_variant
from edgeopt.passes.recover import Goal, recover
from edgeopt.passes.registry import pass_class
from edgeopt.passes.tools import tool_versions
from edgeopt.store.keys import variant_key
from edgeopt.workflow.counting import counted
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
        return MakeContext(
            golden=self.path(self.prepared.golden),
            cache=self.workspace.cache_folder("passes"),
            calibration=self.path(self.prepared.calibration) if self.calibrated else None,
            machine=self.facts.machine,
            isa=self.facts.isa,
            seed=self.request.seed,
            trainable=self.trainable,
            training=self.path(self.prepared.training) if self.prepared.training else None,
            loss=self.request.data.loss or "",
            on_progress=self.on_progress,
        )

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
        known = self.workspace.ledger.variant(self._key(recipe))
        if isinstance(known, Variant) and self.workspace.artifacts.has(known.artifact.digest):
            return known
        try:
            made = make_variant(self.source, recipe, self.context)
            metric = self.prepared.summary.metric
            return Judged(recipe, made, evaluate_onnx(made.path, self.path(self.prepared.evaluation), metric).value)
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

    def recovered(self, judged: Judged) -> Judged | Rejection:
        """Give the layers that lose most back to float until the budget holds."""
        summary, limit = self.prepared.summary, self.request.budget.max_drop
        assert limit is not None
        goal = Goal(self.path(self.prepared.evaluation), summary.metric, self.prepared.baseline, limit)
        quantised = None if judged.made is None else (judged.made, judged.value)
        try:
            recovery = recover(self.source, judged.recipe, self.context, goal, quantised=quantised)
        except (PassError, ChildError) as error:
            return Rejection(judged.recipe.name, "pass", str(error))
        return replace(judged, made=recovery.made, value=recovery.value, notes=(recovery.summary,))

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
    settled: list[Variant | Rejection] = []
    for family, outcome in zip(families, outcomes, strict=True):
        if not isinstance(outcome, Judged):
            settled.append(outcome)
        elif not maker.misses(outcome):
            settled.append(maker.finished(outcome))
        else:
            members = [other for key, other in zip(families, outcomes, strict=True) if key == family]
            settled.append(_recovered_or_told(maker, outcome, _best(maker, members)))
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


def _recovered_or_told(maker: Maker, judged: Judged, best: Variant | Judged) -> Variant | Rejection:
    if best is not judged:
        name = best.name if isinstance(best, Variant) else best.recipe.name
        reason = f"{maker.loss(judged)}; {name}, which differs in calibration alone, loses no more"
        return Rejection(judged.recipe.name, "host_accuracy", reason)
    recovered = maker.recovered(judged)
    return recovered if isinstance(recovered, Rejection) else maker.finished(recovered)
