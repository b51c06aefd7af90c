"""Makes the variants of a network for one kind of hardware; what cannot be made is dropped with its reason."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.core.device import DeviceFacts
from edgeopt.core.formats import ONNX
from edgeopt.core.layers import LayerFigures
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import BASELINE, Recipe
from edgeopt.core.variant import Provenance, Rejection, Variant
from edgeopt.core.work import Work
from edgeopt.errors import ModelError
from edgeopt.graph.work import work_of
from edgeopt.passes.tools import tool_versions
from edgeopt.remote.client import connect
from edgeopt.workflow.bounding import within_size
from edgeopt.workflow.executors import check_executor
from edgeopt.workflow.filtering import unless_twin, without_siblings
from edgeopt.workflow.latency_table import with_measured_widths
from edgeopt.workflow.layer_figures import layer_figures
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.making import Judged, Maker, settle, trains
from edgeopt.workflow.preparing import Prepared, model_facts, prepare, trainable_form
from edgeopt.workflow.recipes import missing_tools, wanted
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import profile_for, resolve_target
from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import registry
from edgeopt_targets._base import ModelFacts, Target
from edgeopt_targets.rules._base import LOWERING


@dataclass(frozen=True)
class VariantSet:
    """What became of a profile's recipes.

    Attributes:
        variants: Those that may be measured, the original first.
        rejections: The others, with their reasons.
        layers: What making them told of single layers.
    """

    variants: tuple[Variant, ...]
    rejections: tuple[Rejection, ...]
    layers: tuple[LayerFigures, ...] = ()


def baseline_variant(prepared: Prepared, work: Work | None = None) -> Variant:
    """The unmodified network, and what it takes: always a candidate."""
    artifact = prepared.model.artifact
    provenance = Provenance(artifact.digest, BASELINE, "", tool_versions(), 0)
    return Variant(BASELINE.name, artifact, provenance, metric=prepared.baseline, cosine=1.0, work=work)


def original_variant(maker: Maker, profile: Profile) -> Variant | Rejection:
    """The unmodified network in a form that the device reads: as it is, or in older versions of ONNX.

    What no lowering helps with (another format, too little memory) is left to what is measured: the network is then a
    variant that no runtime of the device takes.
    """
    target, model = registry.target(profile.target), model_facts(maker.prepared, calibrated=maker.calibrated)
    (recipe,) = target.recipes(replace(profile, recipes=(BASELINE,)), maker.facts)
    if model.format != ONNX or recipe == BASELINE or target.rules(profile, maker.facts, model, BASELINE) is None:
        return baseline_variant(maker.prepared, work_of(maker.source) if model.format == ONNX else None)
    if reason := target.rules(profile, maker.facts, model, recipe):
        return Rejection(BASELINE.name, "rule", reason)
    outcome = maker.judge(recipe)
    return maker.finished(outcome) if isinstance(outcome, Judged) else outcome


def readable_original(maker: Maker, profile: Profile) -> Variant:
    """The same where nothing can be done without it.

    Raises:
        ModelError: The device's runtimes cannot read the network, in older versions of ONNX neither.
    """
    found = original_variant(maker, profile)
    if isinstance(found, Rejection):
        raise ModelError(f"{maker.prepared.model.name} cannot run on the device: {found.reason}")
    return found


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
        UsageError: `request.recipes` names a recipe that there is not.
        DocumentError: The user's file of recipes is not one.
        ModelError: The device can run neither the network nor anything that was made of it; nothing was sent there.
    """
    target = registry.target(profile.target)
    recipes = target.recipes(replace(profile, recipes=wanted(request, profile)), facts)
    training = any(trains(recipe) for recipe in recipes)
    maker = maker_for(request, prepared, facts, workspace, training=training, listener=listener)
    model = model_facts(prepared, calibrated=maker.calibrated)
    recipes = tuple(_lowered_where_it_tells(target, profile, facts, model, recipe) for recipe in recipes)
    allowed: list[Recipe | Rejection] = []
    for recipe in recipes:
        reason = target.rules(profile, facts, model, recipe) or missing_tools(recipe, request)
        allowed.append(Rejection(recipe.name, "rule", reason) if reason else recipe)
    allowed, times = with_measured_widths(allowed, maker, profile, listener)
    listener.stage("Making variants", len(recipes))
    begun = [one if isinstance(one, Rejection) else maker.judging(one) for one in allowed]
    judged: list[Variant | Rejection | Judged] = []
    for one, wait in zip(allowed, begun, strict=True):
        judged.append(wait if isinstance(wait, Rejection) else wait())
        listener.advance(one.name)
    outcomes: list[Variant | Rejection] = [original_variant(maker, profile)]
    made = [recipe if isinstance(one, Rejection) else one for recipe, one in zip(recipes, allowed, strict=True)]
    for outcome in settle(maker, made, judged):
        outcomes.append(unless_twin(outcome, outcomes))
    outcomes = within_size(without_siblings(outcomes, workspace.artifacts), request.budget)
    variants = tuple(outcome for outcome in outcomes if isinstance(outcome, Variant))
    rejections = tuple(outcome for outcome in outcomes if isinstance(outcome, Rejection))
    for rejection in rejections:
        listener.note(f"Left out {rejection.name}: {rejection.reason}")
    if not variants:
        readable_original(maker, profile)
    for note in (note for variant in variants if variant.name == BASELINE.name for note in variant.notes):
        listener.note(f"The device's runtime is older than the network: in what is measured as original, {note}.")
    return VariantSet(variants, rejections, layer_figures(maker, made, times))


def _lowered_where_it_tells(
    target: Target, profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe
) -> Recipe:
    """The recipe without a last step that lowers versions, where the device's runtimes read its result anyway."""
    without = replace(recipe, passes=recipe.passes[:-1])
    if not recipe.passes or recipe.passes[-1].name != LOWERING:
        return recipe
    same = target.runtimes(profile, facts, model, without) == target.runtimes(profile, facts, model, recipe)
    return without if same and without.passes else recipe


def maker_for(
    request: Request,
    prepared: Prepared,
    facts: DeviceFacts,
    workspace: Workspace,
    *,
    training: bool,
    listener: Listener,
) -> Maker:
    """What makes the variants of one run; with the form for training where a pass trains."""
    trainable = trainable_form(request, prepared, workspace, listener) if training else None
    return Maker(request, prepared, facts, workspace, trainable, lambda text, _: listener.detail(text))


def optimize_into(
    folder: Path, request: Request, workspace: Workspace, *, listener: Listener | None = None
) -> VariantSet:
    """Make the variants for a target and write them into a folder; nothing is measured.

    Raises:
        EdgeoptError: The model, the samples or the target cannot be used.
    """
    request.check()
    check_executor(request.executor)
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    with connect(aim.device) as connection:
        facts = connection.probe()
    said = listener or Silence()
    profile = profile_for(aim, facts, request.target, said)
    prepared = prepare(request, workspace, said)
    with workspace.executing(request.executor) as working:
        made = make_variants(request, prepared, facts, profile, working, said)
    folder.mkdir(parents=True, exist_ok=True)
    for variant in made.variants:
        shutil.copyfile(
            workspace.artifacts.path(variant.artifact), folder / f"{variant.name}.{variant.artifact.format}"
        )
    return made
