"""Search on the device: asks a strategy for a point, makes it, measures it there, and tells the strategy.

Each trial connects anew: making a network may take an hour, for which a board need not be held.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.budget import Budget
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import Recipe
from edgeopt.core.selection import Candidate
from edgeopt.core.space import Choice, Space, Trial, Value
from edgeopt.core.variant import Rejection, Variant
from edgeopt.errors import ChildError, ParityError, PassError, UsageError
from edgeopt.passes._base import EXACT
from edgeopt.passes.make import make_variant
from edgeopt.passes.registry import pass_class
from edgeopt.passes.space_files import read_space, shipped_spaces
from edgeopt.selection.budget import misses
from edgeopt.selection.comparison import Comparison, drop
from edgeopt.selection.figures import figures_of
from edgeopt.selection.pareto import front
from edgeopt.selection.strategies import strategy
from edgeopt.selection.wording import points
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.making import Maker, settle
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.optimizing import readable_original
from edgeopt.workflow.preparing import model_facts
from edgeopt.workflow.request import SearchRequest
from edgeopt.workflow.tuning import readers
from edgeopt_targets import registry

FINALISTS = 6
"""Points of the Pareto front that are made once more by their final recipe, least of the objective first."""

_RECOVERED = "quantise_static"
"""What may give layers back to float, where it is the last that loses accuracy: others cannot leave layers out."""

_FAR = 1e6
"""The excess of what did not run, or of which a limited figure is not known; the ledger keeps no infinities."""


@dataclass(frozen=True)
class Field:
    """What a search works with.

    Attributes:
        maker: Makes and judges variants here.
        profile: The device's.
        settings: What the original is measured with; every trial, with those that were its fastest.
        bench: Connects to the device for one trial.
        keep: Hears all trials after each one; where it keeps them, a search that was cut off goes on.
        listener: Hears of progress.
    """

    maker: Maker
    profile: Profile
    settings: Sequence[Settings]
    bench: Callable[[], contextlib.AbstractContextManager[Bench]]
    keep: Callable[[tuple[Trial, ...]], None]
    listener: Listener

    @property
    def original(self) -> Variant:
        """The unmodified network, which every trial is compared with."""
        return readable_original(self.maker, self.profile)

    @property
    def budget(self) -> Budget:
        """Limits and objective."""
        return self.maker.request.budget


def space_named(name: str) -> Space:
    """A shipped space, or that of a YAML file.

    Raises:
        UsageError: Neither.
        DocumentError, PassError: The file is not one of a space.
    """
    known = {one.space.name: one.space for one in shipped_spaces()}
    if name in known:
        return known[name]
    if Path(name).is_file():
        return read_space(Path(name))
    listed = ", ".join(known)
    raise UsageError(f"--search {name!r} is no file and no space that ships.", remedy=f"Use a file, or {listed}.")


def require(wanted: SearchRequest) -> None:
    """Refuse a search that could not begin.

    Raises:
        UsageError: No such space or strategy, or the strategy needs something that is not installed.
        DocumentError, PassError: The file is not one of a space.
    """
    strategy(wanted.strategy).ask(space_named(wanted.space), (), 0)  # the first question shows what is missing


def search(
    field: Field, wanted: SearchRequest, trials: tuple[Trial, ...], *, clock: Callable[[], float] = time.monotonic
) -> tuple[tuple[Trial, ...], tuple[Variant | Rejection, ...]]:
    """Search until the bound on trials or time, or until nothing is left to try.

    Args:
        field: Device, network, data.
        wanted: Space, strategy and bounds.
        trials: What is known already, of the same search.
        clock: Seconds; for the bound on time.

    Returns:
        All trials, and what the final recipes of the best of them gave.

    Raises:
        UsageError: No such space or strategy.
        DeviceError: The device cannot be reached; the trials so far are kept.
    """
    ask = strategy(wanted.strategy).ask
    space = _fitting(space_named(wanted.space), field)
    settings = _fastest(field)
    bound = min(wanted.trials, space.size())
    field.listener.stage(f"Searching {space.name}", max(0, bound - len(trials)))
    began = clock()
    while len(trials) < bound and clock() - began < (wanted.max_seconds or math.inf):
        point = ask(space, trials, field.maker.request.seed)
        if point is None:
            break
        trial = _tried(field, space, settings, Trial(len(trials) + 1, point, excess=_FAR))
        trials = (*trials, trial)
        field.keep(trials)
        field.listener.advance(_line(trial, field.budget))
    return trials, tuple(_final(field, space, trial) for trial in _best(trials))


def _fitting(space: Space, field: Field) -> Space:
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


def _recipe(space: Space, trial: Trial, name: str, *, final: bool = False) -> Recipe:
    """The recipe of a point; one that ends in 8 bits may get layers back in float, as the recipes that ship may."""
    recipe = space.recipe(trial.point, name, final=final)
    lossy = [spec.name for spec in recipe.passes if pass_class(spec.name).min_cosine < EXACT]
    return dataclasses.replace(recipe, recover=lossy[-1:] == [_RECOVERED])


def _passes(space: Space, wishes: dict[str, Value]) -> Recipe:
    return space.recipe(space.completed(wishes), space.name)


def _fastest(field: Field) -> Settings:
    """The settings with which the original is fastest on the device; the first where it does not run."""
    with field.bench() as bench:
        suited = readers(bench, field.settings, field.original)
        launches = [bench.measure(field.original, settings, QUICK) for settings in suited]
    times = [launch.latency.median_ns if launch.ok and launch.latency else math.inf for launch in launches]
    return suited[times.index(min(times))]


def _tried(field: Field, space: Space, settings: Settings, trial: Trial) -> Trial:
    """Make a point, measure it, and say what it gave."""
    made = _made(field, _recipe(space, trial, f"{space.name}-{trial.number}"))
    if isinstance(made, Rejection):
        return dataclasses.replace(trial, reason=made.reason)
    measured = []
    with field.bench() as bench:
        for variant in (field.original, made):
            measured.append(Candidate(variant, settings, (bench.measure(variant, settings, QUICK),)))
    figures = figures_of(measured, field.budget, seed=field.maker.request.seed)
    item = next(one for one in figures if one.candidate.variant is made)
    missed = misses(item, field.budget)
    told = dataclasses.replace(trial, variant=made.name, reason="; ".join(miss.sentence for miss in missed))
    if item.problem or not item.working:
        return told
    objectives = (Comparison(field.budget.objective, 0.0).value(item), drop(item) if item.drop else 0.0)
    excess = min(_FAR, sum(miss.excess for miss in missed))
    return dataclasses.replace(told, objectives=objectives, excess=excess)


def _made(field: Field, recipe: Recipe) -> Variant | Rejection:
    target = registry.target(field.profile.target)
    maker = field.maker
    if reason := target.rules(
        field.profile, maker.facts, model_facts(maker.prepared, calibrated=maker.calibrated), recipe
    ):
        return Rejection(recipe.name, "rule", reason)
    return settle(maker, [recipe], [maker.judge(recipe)])[0]


def _best(trials: tuple[Trial, ...]) -> list[Trial]:
    """The front of those within the budget, else the nearest miss."""
    ran = sorted((trial for trial in trials if trial.measured), key=lambda trial: (trial.excess, trial.objectives))
    holding = [trial for trial in ran if trial.excess == 0]
    kept = front([trial.objectives for trial in holding])
    return [trial for trial, keep in zip(holding, kept, strict=True) if keep][:FINALISTS] or ran[:1]


def _final(field: Field, space: Space, trial: Trial) -> Variant | Rejection:
    """A point once more, by its final recipe; from the ledger where that is no other."""
    recipe = _recipe(space, trial, trial.variant, final=True)
    if recipe != _recipe(space, trial, trial.variant):
        recipe = dataclasses.replace(recipe, name=f"{trial.variant}-final")
    return _made(field, recipe)


def _line(trial: Trial, budget: Budget) -> str:
    if not trial.measured:
        return f"{trial.number}: {trial.chosen}: {trial.reason}"
    cost, lost = trial.objectives
    return (
        f"{trial.number}: {trial.chosen}: {Comparison(budget.objective, 0.0).told(cost)}, loses {points(lost)} points"
    )
