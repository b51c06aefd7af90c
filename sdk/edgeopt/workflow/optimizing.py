"""Makes the variants of a network for one kind of hardware; what cannot be made is dropped with its reason."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.device import DeviceFacts
from edgeopt.core.model import Artifact
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import BASELINE, Recipe
from edgeopt.core.variant import Provenance, Rejection, Variant
from edgeopt.errors import ChildError, ParityError, PassError, UsageError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes.make import MakeContext, make_variant
from edgeopt.passes.recover import Goal, recover
from edgeopt.passes.tools import tool_versions
from edgeopt.remote.client import connect
from edgeopt.report.quantities import size
from edgeopt.store.keys import variant_key
from edgeopt.workflow.filtering import unless_twin, without_siblings
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.preparing import Prepared, prepare
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import profile_for, resolve_target
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import registry
from edgeopt_targets._base import ModelFacts

_HOPELESS = 5.0
"""A variant that loses this many times the budget on the host is not worth the board's time."""

_LEAST_DROP = 0.001


@dataclass(frozen=True)
class VariantSet:
    """What became of a profile's recipes.

    Attributes:
        variants: Those that may be measured, the original first.
        rejections: The others, with their reasons.
        notes: What the user should know.
    """

    variants: tuple[Variant, ...]
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kitchen:
    """What every recipe of one run needs."""

    request: Request
    prepared: Prepared
    facts: DeviceFacts
    workspace: Workspace

    def path(self, artifact: Artifact) -> Path:
        """Where a file of `prepared` is."""
        return self.workspace.artifacts.path(artifact)

    @property
    def context(self) -> MakeContext:
        """Data, device and folders for the passes."""
        prepared = self.prepared
        return MakeContext(
            golden=self.path(prepared.golden),
            cache=self.workspace.cache_folder("passes"),
            calibration=self.path(prepared.calibration) if self.calibrated else None,
            machine=self.facts.machine,
            isa=self.facts.isa,
            seed=self.request.seed,
        )

    @property
    def calibrated(self) -> bool:
        """Whether there are samples to calibrate on: the user's, or random ones that the user allowed."""
        return not self.prepared.summary.generated or self.request.data.random

    def provenance(self, recipe: Recipe) -> Provenance:
        """How a variant of `recipe` comes to be."""
        prepared, seed = self.prepared, self.request.seed
        return Provenance(prepared.model.artifact.digest, recipe, prepared.summary.digest, tool_versions(), seed)


def baseline_variant(prepared: Prepared) -> Variant:
    """The unmodified network: always a candidate."""
    artifact = prepared.model.artifact
    provenance = Provenance(artifact.digest, BASELINE, "", tool_versions(), 0)
    return Variant(BASELINE.name, artifact, provenance, metric=prepared.baseline, cosine=1.0)


def make_variants(
    request: Request,
    prepared: Prepared,
    facts: DeviceFacts,
    profile: Profile,
    workspace: Workspace,
    listener: Listener,
) -> VariantSet:
    """Make every recipe that the target's rules let through.

    Raises:
        UsageError: `request.recipes` names a recipe that the profile does not have.
    """
    target = registry.target(profile.target)
    recipes = _wanted(request, target.recipes(profile, facts), profile)
    listener.stage("Making variants", len(recipes))
    kitchen = _Kitchen(request, prepared, facts, workspace)
    inspection = prepared.inspection
    model = ModelFacts(inspection.opset, inspection.ir_version, inspection.operators, kitchen.calibrated)
    outcomes: list[Variant | Rejection] = [baseline_variant(prepared)]
    for recipe in recipes:
        reason = target.rules(profile, facts, model, recipe)
        made = Rejection(recipe.name, "rule", reason) if reason else _known_or_made(kitchen, recipe)
        outcome = unless_twin(made, outcomes)
        outcomes.append(outcome)
        listener.advance(_line(outcome))
    outcomes = without_siblings(outcomes, workspace.artifacts)
    variants = tuple(outcome for outcome in outcomes if isinstance(outcome, Variant))
    return VariantSet(variants, tuple(outcome for outcome in outcomes if isinstance(outcome, Rejection)))


def _wanted(request: Request, recipes: Sequence[Recipe], profile: Profile) -> tuple[Recipe, ...]:
    names = [recipe.name for recipe in recipes]
    unknown = [name for name in request.recipes if name not in names]
    if unknown:
        raise UsageError(
            f"--recipes names {unknown[0]!r}, which profile {profile.name!r} does not have.",
            remedy=f"Use one of {', '.join(names)}.",
        )
    return tuple(recipe for recipe in recipes if not request.recipes or recipe.name in request.recipes)


def _line(outcome: Variant | Rejection) -> str:
    if isinstance(outcome, Variant):
        return f"{outcome.name}: {size(outcome.artifact.size_bytes)}"
    return f"{outcome.name}: left out: {outcome.reason}"


def _known_or_made(kitchen: _Kitchen, recipe: Recipe) -> Variant | Rejection:
    """From the ledger where the very same was made before and its file is there."""
    ledger, artifacts = kitchen.workspace.ledger, kitchen.workspace.artifacts
    key = variant_key(kitchen.provenance(recipe), isa=kitchen.facts.isa, max_drop=kitchen.request.budget.max_drop)
    known = ledger.variant(key)
    if isinstance(known, Variant) and artifacts.has(known.artifact.digest):
        return known
    try:
        outcome: Variant | Rejection = _made(kitchen, recipe)
    except (PassError, ChildError) as error:
        return Rejection(recipe.name, "parity" if isinstance(error, ParityError) else "pass", str(error))
    ledger.remember_variant(key, outcome)
    return outcome


def _made(kitchen: _Kitchen, recipe: Recipe) -> Variant | Rejection:
    """Make it, judge it here, and where it loses too much, give layers back to float."""
    prepared, limit = kitchen.prepared, kitchen.request.budget.max_drop
    source, evaluation = kitchen.path(prepared.model.artifact), kitchen.path(prepared.evaluation)
    try:
        made = make_variant(source, recipe, kitchen.context)
        quantised = (made, evaluate_onnx(made.path, evaluation, prepared.summary.metric).value)
    except ParityError:
        if limit is None or not recipe.recover:
            raise
        quantised = None
    notes: tuple[str, ...] = ()
    if limit is not None and recipe.recover and (quantised is None or prepared.baseline - quantised[1] > limit):
        goal = Goal(evaluation, prepared.summary.metric, prepared.baseline, limit)
        recovery = recover(source, recipe, kitchen.context, goal, quantised=quantised)
        quantised, notes = (recovery.made, recovery.value), (recovery.summary,)
    assert quantised is not None
    made, value = quantised
    if limit is not None and prepared.baseline - value > _HOPELESS * max(limit, _LEAST_DROP):
        lost = f"loses {(prepared.baseline - value) * 100:.1f} points of {prepared.summary.metric} on the host"
        return Rejection(recipe.name, "host_accuracy", f"{lost} (budget {limit * 100:g})")
    return Variant(
        name=recipe.name,
        artifact=kitchen.workspace.artifacts.add(made.path, "onnx"),
        provenance=kitchen.provenance(recipe),
        metric=value,
        cosine=made.parity.cosine,
        kept_float=made.kept_float,
        notes=(*made.notes, *notes),
    )


def optimize_into(
    folder: Path, request: Request, workspace: Workspace, *, listener: Listener | None = None
) -> VariantSet:
    """Make the variants for a target and write them into a folder; nothing is measured.

    Raises:
        EdgeoptError: The model, the samples or the target cannot be used.
    """
    request.check()
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    with connect(aim.device) as connection:
        facts = connection.probe()
    profile = profile_for(aim, facts, request.target)
    said = listener or Silence()
    made = make_variants(request, prepare(request, workspace, said), facts, profile, workspace, said)
    folder.mkdir(parents=True, exist_ok=True)
    for variant in made.variants:
        shutil.copyfile(workspace.artifacts.path(variant.artifact), folder / f"{variant.name}.onnx")
    return made
