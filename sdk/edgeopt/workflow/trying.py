"""One trial of a search: a point is made, judged here, and measured on the device beside the original.

Each trial connects anew: making a network may take an hour, for which a board need not be held.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeopt.core.budget import Budget
from edgeopt.core.device import DeviceFacts
from edgeopt.core.measurement import Accuracy
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import Recipe
from edgeopt.core.selection import Candidate
from edgeopt.core.space import Choice, Space, Trial, Value
from edgeopt.core.study import Claim
from edgeopt.core.variant import Rejection, Variant
from edgeopt.errors import ChildError, ParityError, PassError
from edgeopt.passes._base import EXACT
from edgeopt.passes.make import make_variant
from edgeopt.passes.registry import pass_class
from edgeopt.selection.budget import misses
from edgeopt.selection.comparison import Comparison, drop
from edgeopt.selection.figures import figures_of
from edgeopt.workflow.bounding import Bounds
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.making import Maker, settle
from edgeopt.workflow.measuring import ATTEMPTS, TRANSIENT, Bench, in_vain, machine_of
from edgeopt.workflow.optimizing import readable_original
from edgeopt.workflow.preparing import Prepared, model_facts
from edgeopt.workflow.studying import UNKNOWN_EXCESS
from edgeopt.workflow.tuning import readers, reference
from edgeopt_targets import registry

Clock = Callable[[], float]

_RECOVERED = "quantise_static"
"""What may give layers back to float, where it is the last that loses accuracy: others cannot leave layers out."""


@dataclass(frozen=True)
class Field:
    """What a search works with.

    Attributes:
        maker: Makes and judges variants here.
        profile: The device's.
        settings: What the original is measured with; every trial, with those that were its fastest.
        bench: Connects to the device for one trial.
        keep: Hears all trials so far, again and again: for whoever looks at the run meanwhile.
        hold: Hears of every trial that is better than those before, with its file.
        listener: Hears of progress.
    """

    maker: Maker
    profile: Profile
    settings: Sequence[Settings]
    bench: Callable[[], contextlib.AbstractContextManager[Bench]]
    keep: Callable[[tuple[Trial, ...]], None]
    hold: Callable[[Trial, Variant], None]
    listener: Listener

    @property
    def original(self) -> Variant:
        """The unmodified network, which every trial is compared with."""
        return readable_original(self.maker, self.profile)

    @property
    def budget(self) -> Budget:
        """Limits and objective."""
        return self.maker.request.budget

    @property
    def facts(self) -> DeviceFacts:
        """The device's."""
        return self.maker.facts

    @property
    def prepared(self) -> Prepared:
        """Model and samples."""
        return self.maker.prepared


def fitting(space: Space, field: Field) -> Space:
    """The space without choices whose passes find nothing to do in this network."""
    choices = []
    for choice in space.choices:
        reason = _refused(space, choice, field)
        if reason:
            field.listener.note(f"The search leaves out {choice.name}: {reason}")
            choice = dataclasses.replace(choice, values=choice.values[:1])
        choices.append(choice)
    return dataclasses.replace(space, choices=tuple(choices))


def _refused(space: Space, choice: Choice, field: Field) -> str:
    """Why the pass that only this choice turns on can do nothing; empty where it can."""
    others = [value for value in choice.values if value is not None]
    if choice.values[0] is not None or not others:
        return ""
    on, off = (_passes(space, {choice.name: value}) for value in (others[0], None))
    added = [spec for spec in on.passes if spec not in off.passes]
    try:
        make_variant(field.maker.source, Recipe(choice.name, tuple(added)), field.maker.context)
    except (PassError, ChildError, ParityError) as error:
        return str(error)
    return ""


def recipe_of(space: Space, trial: Trial, name: str, *, final: bool = False) -> Recipe:
    """The recipe of a point; one that ends in 8 bits may get layers back in float, as the recipes that ship may."""
    recipe = space.recipe(trial.point, name, final=final)
    lossy = [spec.name for spec in recipe.passes if pass_class(spec.name).min_cosine < EXACT]
    return dataclasses.replace(recipe, recover=lossy[-1:] == [_RECOVERED])


def _passes(space: Space, wishes: dict[str, Value]) -> Recipe:
    return space.recipe(space.completed(wishes), space.name)


@dataclass(frozen=True)
class Yardstick:
    """What trials are measured with and against.

    Attributes:
        settings: What a trial runs with where its file allows it.
        beside: Whether the original is measured beside it, with the same.
        reference: The original's accuracy where the device cannot tell it.
    """

    settings: Settings
    beside: bool = True
    reference: Accuracy | None = None

    def of(self, field: Field, made: Variant) -> Settings | None:
        """What a trial runs with: these, else the first as near as can be; ``None`` where no runtime reads it."""
        suited = readers(field, (self.settings, *field.settings), made)
        alike = [one for one in suited if one.threads == self.settings.threads]
        return next(iter(alike or suited), None)


def yardstick(field: Field) -> Yardstick:
    """The settings with which the original is fastest on the device; the first where it does not run."""
    suited = readers(field, field.settings, field.original)
    with field.bench() as bench:
        if not suited:
            return Yardstick(field.settings[0], beside=False, reference=reference(bench, field.original))
        launches = [bench.measure(field.original, settings, QUICK) for settings in suited]
    times = [launch.latency.median_ns if launch.ok and launch.latency else math.inf for launch in launches]
    return Yardstick(suited[times.index(min(times))])


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        trial: With its figures, or why there are none.
        variant: What ran on the device within the budget or not; ``None`` where nothing did.
        in_vain: Whether the board lost or spoiled a launch, so that it says nothing of the point.
    """

    trial: Trial
    variant: Variant | None = None
    in_vain: bool = False


def tried(
    field: Field,
    made: Variant | Rejection,
    against: Yardstick,
    claim: Claim,
    *,
    clock: Clock,
    before: Sequence[Trial] = (),
) -> Outcome:
    """Measure what a point gave beside the original unless it cannot win, and judge it.

    Args:
        field: What the search works with.
        made: What the point gave here.
        against: How it is run, and beside what.
        claim: The point, and which attempt at it this is.
        clock: Seconds.
        before: Trials that ended, of which the best bounds what the device is asked about.

    Raises:
        DeviceError: The device cannot be reached, or somebody else has it.
    """
    trial = claim.trial
    if isinstance(made, Rejection):
        return Outcome(dataclasses.replace(trial, excess=UNKNOWN_EXCESS, reason=made.reason))
    settings = against.of(field, made)
    if reason := _hopeless(field, made, settings, before):
        return Outcome(dataclasses.replace(trial, excess=UNKNOWN_EXCESS, variant=made.name, reason=reason))
    assert settings is not None
    runs = [(field.original, against.settings)] if against.beside else []
    with field.bench() as connected:
        bench, began = dataclasses.replace(connected, first_attempt=ATTEMPTS * (claim.attempts - 1)), clock()
        measured = [
            Candidate(variant, chosen, (bench.measure(variant, chosen, QUICK),), against.reference)
            for variant, chosen in (*runs, (made, settings))
        ]
        taken = dataclasses.replace(trial, board=bench.connection.device.name, device_seconds=clock() - began)
    return _judged(field, taken, measured, made)


def _hopeless(field: Field, made: Variant, settings: Settings | None, before: Sequence[Trial]) -> str:
    """Why the device need not be asked; empty where it is to be."""
    if settings is None:
        return f"no runtime that may be used on the device reads it (.{made.artifact.format})"
    bounds = Bounds(field.budget, machine_of(field.facts, field.profile))
    return bounds.refusal(made, settings, bounds.best_of(before))


def _judged(field: Field, trial: Trial, measured: Sequence[Candidate], made: Variant) -> Outcome:
    """What launches say of a point, of which the last is its own; of the original the outputs are enough."""
    *beside, own = (launch for one in measured for launch in one.measurements)
    lost = next((in_vain(launch) for launch in beside if launch.status in TRANSIENT), "")
    if reason := in_vain(own) or lost:
        told = dataclasses.replace(trial, variant=made.name, reason=reason, excess=UNKNOWN_EXCESS)
        return Outcome(told, in_vain=True)
    figures = figures_of(measured, field.budget, seed=field.maker.request.seed)
    item = next(one for one in figures if one.candidate.variant is made)
    missed = misses(item, field.budget)
    reason = "; ".join(miss.sentence for miss in missed)
    told = dataclasses.replace(trial, variant=made.name, reason=reason, excess=UNKNOWN_EXCESS)
    if item.problem or not item.working:
        return Outcome(told)
    objectives = (Comparison(field.budget.objective, 0.0).value(item), drop(item) if item.drop else 0.0)
    excess = min(UNKNOWN_EXCESS, sum(miss.excess for miss in missed))
    return Outcome(dataclasses.replace(told, objectives=objectives, excess=excess), made)


def making(field: Field, recipe: Recipe) -> Callable[[], Variant | Rejection]:
    """Have the executor begin with a recipe; what is returned waits for the variant, or why there is none."""
    target = registry.target(field.profile.target)
    maker = field.maker
    if reason := target.rules(
        field.profile, maker.facts, model_facts(maker.prepared, calibrated=maker.calibrated), recipe
    ):
        refused = Rejection(recipe.name, "rule", reason)
        return lambda: refused
    judged = maker.judging(recipe)
    return lambda: settle(maker, [recipe], [judged()])[0]
